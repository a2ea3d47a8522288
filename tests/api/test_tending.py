"""Nodes taken out of service and back: by scenes, and over real sockets and HTTP."""

from __future__ import annotations

import asyncio

from api.actions import Emptied
from api.answers import worker
from api.phase import Phase
from api.roster import Session
from tests.api.room import open_room
from tests.api.test_dispatch import Scene
from tests.conftest import soon
from wire.liveness import Pulse
from wire.messages import Drain, Prepare, Resume, Returned, Start, WorkerHeartbeat
from wire.models import Status


def beat(
    scene: Scene, session: Session, state: str = "up", running: int = 0, withheld: str = ""
) -> None:
    heartbeat = WorkerHeartbeat(
        session=session.number, seen=0, received=0, running=running, sandboxes=0,
        state=state,  # type: ignore[arg-type]
        withheld=withheld,
    )  # fmt: skip
    scene.did(scene.dispatch.nodes.beat(session, heartbeat, scene.now))


def test_what_a_node_grants_and_why_it_grants_less_is_shown() -> None:
    scene = Scene()
    session = scene.join("node1")
    scene.credit(session, 3)
    assert (worker(session).free, worker(session).silent) == (3, False)
    beat(scene, session, withheld="no sandbox could be made here once")
    assert worker(session).withheld == "no sandbox could be made here once"
    scene.did(scene.dispatch.nodes.pulse(session, Pulse.SILENT, scene.now))
    assert (worker(session).state, worker(session).silent) == ("up", True)
    beat(scene, session)
    assert (worker(session).withheld, worker(session).silent) == ("", False)


def is_drained(session: Session) -> bool:
    return session.is_drained


def test_a_node_that_is_set_aside_gets_nothing_new_from_this_moment_on() -> None:
    scene = Scene()
    first, second = scene.join("node1"), scene.join("node2")
    scene.credit(first, 2, 2)
    scene.did(scene.dispatch.nodes.drain(first))
    assert [drain.session for drain in scene.sent(Drain)] == [first.number]
    call = scene.accept(1)
    assert (call.phase, scene.sent(Start)) == (Phase.QUEUED, [])
    # Its heartbeat crossed the word; it is set aside all the same.
    beat(scene, first, "up")
    assert scene.sent(Start) == []
    scene.credit(second, 1, 1)
    assert [start.session for start in scene.sent(Start)] == [second.number]


def test_what_it_hands_back_goes_elsewhere_and_it_is_drained_when_all_has_ended() -> None:
    scene = Scene()
    first, second = scene.join("node1"), scene.join("node2")
    scene.credit(first, 2, 1)
    running, prepared = scene.accept(1), scene.accept(2)
    assert (running.phase, prepared.phase) == (Phase.STARTED, Phase.PREPARED)
    scene.did(scene.dispatch.nodes.drain(first))
    scene.credit(second, 1)
    returned = Returned(session=first.number, call=2, attempt=1)
    scene.sent(Prepare)
    scene.did(scene.dispatch.returned(first, returned, scene.now))
    assert [p.session for p in scene.sent(Prepare)] == [second.number]
    beat(scene, first, "draining", running=1)
    assert not is_drained(first)
    scene.result(first, 1)
    assert not is_drained(first), "it still says that something runs"
    beat(scene, first, "draining")
    assert is_drained(first)
    assert [a.session for a in scene.actions if isinstance(a, Emptied)] == [first]


def test_a_node_that_resumes_gets_what_waits() -> None:
    scene = Scene()
    session = scene.join()
    scene.did(scene.dispatch.nodes.drain(session))
    beat(scene, session, "draining")
    call = scene.accept(1)
    scene.did(scene.dispatch.nodes.resume(session))
    assert len(scene.sent(Resume)) == 1
    assert not session.takes_work, "it has not heard of it yet"
    # Its CREDIT first, then its heartbeat: whichever comes last starts the call.
    scene.credit(session, 1, 1)
    assert call.phase is Phase.QUEUED
    beat(scene, session, "up")
    assert len(scene.sent(Start)) == 1


def test_it_is_told_again_in_a_new_session_but_not_in_a_new_life() -> None:
    scene = Scene()
    scene.did(scene.dispatch.nodes.drain(scene.join()))
    scene.sent(Drain)
    again = scene.join()
    assert ([d.session for d in scene.sent(Drain)], again.is_draining) == ([again.number], True)
    anew = scene.join(life=2)
    assert (scene.sent(Drain), anew.takes_work) == ([], True)


def test_a_node_that_may_not_have_heard_that_it_works_again_is_told_in_its_next_session() -> (
    None
):
    scene = Scene()
    session = scene.join()
    scene.did(scene.dispatch.nodes.drain(session))
    scene.did(scene.dispatch.nodes.resume(session))
    scene.sent(Resume)
    again = scene.join()
    assert [resume.session for resume in scene.sent(Resume)] == [again.number]
    # Set aside once more, it is told that and nothing else; another life never drained.
    scene.did(scene.dispatch.nodes.drain(again))
    scene.sent(Drain)
    scene.join()
    assert (len(scene.sent(Drain)), scene.sent(Resume)) == (1, [])
    scene.did(scene.dispatch.nodes.resume(scene.join()))
    scene.sent(Resume)
    scene.join(life=2)
    assert scene.sent(Resume) == []


def test_calls_of_a_node_that_is_forgotten_wait_for_it_no_longer() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    call = scene.accept(1)
    scene.did(scene.dispatch.lost(session, scene.now))
    assert (call.phase, call.status) == (Phase.SILENT, Status.RUNNING)
    scene.did(scene.dispatch.nodes.forget("node1", scene.now))
    assert call.status is Status.LOST
    assert call.reason is not None
    assert call.reason.code == "node_lost"
    assert not scene.roster.gone


async def test_drain_and_resume_by_http() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(1, dice=1)
        call = asyncio.ensure_future(room.invoke("?wait=20"))
        start, _ = await worker.start()
        status, shown, _ = await room.ask("POST", "/workers/node1/drain")
        assert (status, shown["state"], shown["drained"]) == (202, "draining", False)
        assert (shown["attempts"], shown["version"], shown["labels"]) == (1, "0", {})
        await worker.next(Drain)
        waiting = asyncio.ensure_future(room.ask("POST", "/workers/node1/drain?wait=30"))
        await worker.next(Drain)
        worker.result(start.call, start.attempt)
        assert (await call)[1]["status"] == "DONE"
        worker.heartbeat(state="draining")
        status, shown, _ = await waiting
        assert (status, shown["drained"], shown["attempts"]) == (200, True, 0)
        status, shown, _ = await room.ask("POST", "/workers/node1/resume")
        await worker.next(Resume)
        assert (status, shown["state"]) == (200, "draining")
        worker.heartbeat()

        async def is_up() -> bool:
            _, (one,), _ = await room.ask("GET", "/workers")
            return bool(one["state"] == "up")

        await soon(is_up)


async def test_what_cannot_be_drained_or_removed_says_why() -> None:
    async with open_room() as room:
        worker = await room.worker()
        status, answer, _ = await room.ask("DELETE", "/workers/node1")
        assert (status, answer["error"]["code"]) == (409, "conflict")
        assert "drain" in answer["error"]["hint"]
        for method, path in (
            ("POST", "/workers/nope/drain"), ("POST", "/workers/nope/resume"),
            ("DELETE", "/workers/nope"), ("POST", "/workers/-/drain"),
        ):  # fmt: skip
            status, answer, _ = await room.ask(method, path)
            assert (status, answer["error"]["code"]) == (404, "unknown_worker"), path
        status, _, _ = await room.ask("POST", "/workers/node1/drain?wait=301")
        assert status == 400
        waiting = asyncio.ensure_future(room.ask("POST", "/workers/node1/drain?wait=30"))
        await worker.next(Drain)
        # Another life of it: the session is over, and so is the wait.
        other = await room.worker("node1", boot="boot2", node_id="id-node1")
        status, shown, _ = await waiting
        assert (status, shown["state"]) == (202, "up")
        other.leave()

        async def is_gone() -> bool:
            _, (one,), _ = await room.ask("GET", "/workers")
            return bool(one["state"] == "gone")

        await soon(is_gone)
        status, answer, _ = await room.ask("POST", "/workers/node1/drain")
        assert (status, answer["error"]["code"]) == (409, "conflict")
        assert (await room.ask("DELETE", "/workers/node1"))[0] == 204
        assert (await room.ask("GET", "/workers"))[1] == []
