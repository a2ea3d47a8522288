"""The room over real sockets: a worker process, the fake sandbox, an api by script."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import children, soon
from tests.worker.scripted import KEY, ScriptedApi, Worker, items, node, package
from wire import messages as m
from wire.models import Fault, Reason, Status, Warmth


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def joined(api: ScriptedApi, data: bytes = package(), **settings: object) -> m.Hello:
    api.packages[sha(data)] = data
    return await api.welcome(*items(data, **settings))  # type: ignore[arg-type]


async def test_it_joins_grants_runs_and_repeats_nothing(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, worker):
        hello = await joined(api)
        assert (hello.name, hello.slots, hello.sandbox) == ("n1", 2, "fake")
        assert (await worker.started())["node"] == hello.node_id
        credit = await api.get(m.Credit)
        assert (credit.seen, credit.free, credit.warm) == (0, 2, ())
        result, payload = await api.call(1, {"a": 1})
        assert result.outcome is not None
        assert result.outcome.status is Status.DONE
        assert result.outcome.start is Warmth.COLD
        assert result.number == 1
        assert json.loads(payload) == {"a": 1}
        await soon(lambda: m.Warm(KEY, 1) in api.of(m.Credit)[-1].warm)
        api.start(2, {"b": 2})
        warm, _ = await api.end(2)
        assert warm.outcome is not None
        assert warm.outcome.start is Warmth.WARM
        assert warm.number == 2
        api.say(m.Recorded(session=1, upto=2))
        assert await worker.stop() == 0
        await api.get(m.Bye)
        assert not list((tmp_path / "d").glob("run/*"))


async def test_the_process_sandbox_runs_a_script(tmp_path: Path) -> None:
    code = b"import sys,json\nprint(json.load(sys.stdin)['a']*2)"
    with node(tmp_path / "d", sandbox="process") as (api, worker):
        data = package(code)
        await joined(api, data, dependencies="echo installed > mark")
        result, payload = await api.call(1, {"a": 21})
        assert result.outcome is not None
        assert result.outcome.status is Status.DONE, result.outcome.reason
        assert payload[: result.sizes[1]].strip() == b"42"
        api.say(m.Recorded(session=1, upto=1))
        assert await worker.stop() == 0


async def test_a_gap_in_the_catalogue_is_healed_by_one_sync(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, _):
        await joined(api)
        await api.get(m.Credit)
        hint = m.Catalogue(session=0, epoch="store-1", after=8, seq=9)
        # A subscriber may still be on its way to the PUB; the heartbeat shows the gap too.
        api.publish(m.TOPIC_CATALOGUE, hint)
        api.beat(seq=9)
        sync = await api.get(m.Sync)
        assert (sync.epoch, sync.seq) == ("store-1", 2)
        data = package()
        new = items(data, name="later", seq=8)
        api.say(m.Catalogue(session=1, epoch="store-1", after=2, seq=9, items=new))
        api.prepare(5, key="default/later@1.1")
        await api.get(m.Ready)


async def test_a_revision_it_lacks_is_asked_for_by_key(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, _):
        await joined(api)
        old = "default/echo@1.7"
        api.prepare(1, key=old)
        sync = await api.get(m.Sync)
        assert sync.keys == (old,)
        api.say(m.Catalogue(session=1, epoch="store-1", after=2, seq=2, missing=(old,)))
        returned = await api.get(m.Returned)
        assert returned.fault is Fault.NODE
        assert returned.reason is not None
        assert old in returned.reason.message


async def test_a_package_is_resumed_in_the_next_session(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, _):
        api.answers_fetch = False
        data = package(os.urandom(5 << 20))
        await joined(api, data)
        api.prepare(1)
        first = await api.get(m.Fetch)
        assert (first.offset, first.key) == (0, sha(data))
        api.feed(first, data)
        second = await api.get(m.Fetch, 2)
        assert second.offset == first.credit
        api.say(m.Who())
        await api.welcome(*items(data), session=2)
        again = await api.get(m.Fetch, 3)
        assert (again.offset, again.session) == (second.offset, 2)
        api.answers_fetch = True
        api.packages[sha(data)] = data
        api.feed(again)
        api.prepare(2)
        await soon(lambda: any(ready.call == 2 for ready in api.of(m.Ready)))
        # What was only PREPAREd in the first session is nobody's any more.
        assert all(ready.call == 2 for ready in api.of(m.Ready))


async def test_a_damaged_package_is_fetched_once_more_then_given_up(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, _):
        api.answers_fetch = False
        data = package()
        await joined(api, data)
        bad = data[:-1] + b"?"
        api.prepare(1)
        api.feed(await api.get(m.Fetch, 1), bad)
        api.feed(await api.get(m.Fetch, 2), data)
        await api.get(m.Ready)
        api.prepare(2, key="default/other@1.1")
        other = package(b"other")
        await api.get(m.Sync)
        pinned = items(other, name="other")
        api.say(m.Catalogue(session=1, epoch="store-1", after=2, seq=2, pinned=pinned))
        api.feed(await api.get(m.Fetch, 3), b"x" * len(other))
        api.feed(await api.get(m.Fetch, 4), b"y" * len(other))
        returned = await api.get(m.Returned)
        assert returned.fault is Fault.NODE
        assert not list((tmp_path / "d").glob("nodes/n1/packages/*.part"))


async def test_waiting_attempts_share_one_fetch_and_one_build(tmp_path: Path) -> None:
    with node(tmp_path / "d", "--slots", "4") as (api, worker):
        await joined(api, dependencies="pip3 install -r requirements.txt")
        for call in range(1, 5):
            api.prepare(call)
        await api.get(m.Ready, 4)
        assert len(api.of(m.Fetch)) == 1
        assert len(list((tmp_path / "d").glob("nodes/n1/bundles/*"))) == 1
        assert await worker.stop() == 0


async def test_one_package_under_two_runtimes_is_fetched_once(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, _):
        await joined(api)
        other = items(package(), name="other", dependencies="true")
        runtime, function = other
        assert runtime.runtime is not None
        assert function.function is not None
        renamed = msgspec.structs.replace(runtime.runtime, name="python2")
        moved = msgspec.structs.replace(function.function, runtime_name="python2")
        pinned = (
            msgspec.structs.replace(runtime, runtime=renamed),
            msgspec.structs.replace(function, function=moved),
        )
        api.say(m.Catalogue(session=1, epoch="store-1", after=2, seq=2, pinned=pinned))
        api.prepare(1)
        api.prepare(2, key="default/other@1.1")
        await api.get(m.Ready, 2)
        assert len(api.of(m.Fetch)) == 1
        assert len(list((tmp_path / "d").glob("nodes/n1/bundles/*"))) == 2


async def test_a_package_that_was_cut_short_on_the_disk_is_fetched_again(
    tmp_path: Path,
) -> None:
    data = package(b"print(1)")
    with node(tmp_path / "d") as (api, _):
        await joined(api, data)
        kept = tmp_path / "d/nodes/n1/packages" / sha(data)
        kept.write_bytes(data[:-7])
        await api.call(1)
        assert kept.read_bytes() == data
        assert len(api.of(m.Fetch)) == 1


async def test_bundles_that_nobody_uses_are_evicted(tmp_path: Path) -> None:
    with node(tmp_path / "d", "--cache-bytes", "1", "--idle", "0") as (api, _):
        await joined(api)
        await api.call(1)
        await soon(lambda: m.Warm(KEY, 0) in api.of(m.Credit)[-1].warm)
        other = package(b"other")
        api.packages[sha(other)] = other
        pinned = items(other, name="other")
        api.say(m.Catalogue(session=1, epoch="store-1", after=2, seq=2, pinned=pinned))
        whole = set((tmp_path / "d").glob("nodes/n1/bundles/*"))
        api.prepare(2, key="default/other@1.1")
        await api.get(m.Ready, 2)
        bundles = tmp_path / "d/nodes/n1/bundles"
        await soon(lambda: len(list(bundles.iterdir())) == 1)
        assert set(bundles.iterdir()) != whole


async def test_a_failed_install_is_the_functions_fault_with_its_log(tmp_path: Path) -> None:
    with node(tmp_path / "d", sandbox="process") as (api, _):
        await joined(api, dependencies="echo no such package; exit 3")
        api.prepare(1)
        returned = await api.get(m.Returned)
        assert returned.fault is Fault.FUNCTION
        assert returned.reason is not None
        assert returned.reason.code == "install_failed"
        assert "no such package" in returned.log
        assert not list((tmp_path / "d").glob("nodes/n1/bundles/*"))
        api.say(m.Cancel(session=1, call=1, attempt=1, reason=returned.reason))
        await api.get(m.Returned, 2)


async def test_large_params_and_results_travel_in_pieces(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, _):
        await joined(api)
        text = "x" * (3 << 20)
        result, payload = await api.call(1, {"text": text})
        assert result.outcome is not None
        assert result.outcome.status is Status.DONE
        assert json.loads(payload) == {"text": text}
        assert {fetch.what for fetch in api.of(m.Fetch)} == {"package", "params"}
        assert len([r for r in api.of(m.Result) if r.outcome is None]) > 10


async def test_results_wait_for_the_api_and_are_repeated_whole(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, worker):
        data = package()
        await joined(api)
        await api.call(1, {"n": 1})
        api.prepare(2)
        await api.get(m.Ready, 2)
        api.start(2, {"sleep_s": 0.3})
        await soon(lambda: api.of(m.Credit)[-1].seen == 4)
        api.say(m.Who())
        hello = await api.welcome(*items(data), session=2)
        assert hello.running == ((1, 1), (2, 1))
        result, _ = await api.end(2)
        repeated = next(r for r in api.ends() if r.call == 1 and r.session == 2)
        assert repeated.number == 1
        assert repeated.record == b'{"callNum":1}'
        assert repeated.sizes[0] == len(b'{"n": 1}')
        assert (result.number, result.session) == (2, 2)
        api.say(m.Recorded(session=2, upto=2))
        api.say(m.Who())
        assert (await api.welcome(*items(data), session=3)).running == ()
        assert await worker.stop() == 0


async def test_an_api_that_begins_anew_at_its_address_is_joined(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, worker):
        await joined(api)
        await api.call(1, {"n": 1})
        api.link.close()
        api.publisher.close()
        api.context.term()
        again = ScriptedApi(api.endpoint, api.pub)
        try:
            # It does not know the session: WHO, not ten seconds of silence.
            await soon(lambda: again.log)
            strangers = again.log[0][0]
            assert isinstance(strangers, m.WorkerHeartbeat | m.Hello)
            again.say_who()
            hello = await again.welcome(*items(package()), session=9)
            assert hello.running == ((1, 1),)
            result, _ = await again.end(1)
            assert result.record == b'{"callNum":1}'
        finally:
            worker.close()
            again.close()


async def test_a_refused_worker_asks_again(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, _):
        first = await api.get(m.Hello)
        api.say(m.Refuse(code="conflict", message="the name n1 is taken", hint="wait"))
        second = await api.get(m.Hello, 2)
        assert (first.number, second.number) == (1, 2)
        await joined(api)
        await api.call(1)
        assert "the name n1 is taken" in (tmp_path / "d/worker.log").read_text()


async def test_a_second_worker_of_one_folder_is_refused(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, worker):
        await worker.started()
        second = Worker(api, tmp_path / "d")
        try:
            await soon(lambda: second.process.poll() is not None)
            assert second.process.returncode == 1
            assert "another worker named 'n1'" in (tmp_path / "d/worker.log").read_text()
        finally:
            second.close()


async def test_sigkill_leaves_no_process_and_the_next_life_sweeps(tmp_path: Path) -> None:
    before = children()
    with node(tmp_path / "d") as (api, worker):
        hello = await joined(api)
        await api.call(1)
        api.prepare(2)
        await api.get(m.Ready, 2)
        api.start(2, {"sleep_s": 60})
        await soon(lambda: api.of(m.Credit)[-1].free == 1)
        worker.process.kill()
        worker.process.wait()
        await soon(lambda: children() == before, what="nothing of the worker lives")
        (tmp_path / "d/nodes/n1/bundles/half").mkdir()
        successor = Worker(api, tmp_path / "d")
        try:
            again = await api.get(m.Hello)
            assert again.node_id == hello.node_id
            assert again.boot != hello.boot
            assert not (tmp_path / "d/nodes/n1/bundles/half").exists()
            assert len(list((tmp_path / "d/run/n1").iterdir())) == 1
            await joined(api)
            # The bundle is still there: nothing is fetched for it.
            fetched = len(api.of(m.Fetch))
            await api.call(3)
            assert len(api.of(m.Fetch)) == fetched
        finally:
            successor.close()


async def test_a_killed_miniworker_loses_its_call_alone(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, _):
        await joined(api)
        api.prepare(1)
        await api.get(m.Ready)
        api.start(1, {"die": True})
        result, _ = await api.end(1)
        assert result.outcome is not None
        assert result.outcome.status is Status.LOST
        assert result.outcome.reason is not None
        assert result.outcome.reason.code == "sandbox_lost"
        await api.call(2)


async def test_a_cold_start_is_explained(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, _):
        await joined(api, dependencies="pip3 install -r requirements.txt")
        cold, _ = await api.call(1)
        assert cold.outcome is not None
        assert cold.outcome.made is not None
        assert cold.outcome.made.because == m.ColdBecause.FIRST
        assert list(cold.outcome.made.stages) == ["fetch", "install", "sandbox", "load"]
        await soon(lambda: m.Warm(KEY, 1) in api.of(m.Credit)[-1].warm)
        api.start(2)
        warm, _ = await api.end(2)
        assert warm.outcome is not None
        assert warm.outcome.made is None


async def test_calls_that_a_killed_miniworker_never_handed_over_are_returned(
    tmp_path: Path,
) -> None:
    before = children()
    with node(tmp_path / "d", "--slots", "1") as (api, worker):
        await joined(api)
        await api.call(1)
        await soon(lambda: m.Warm(KEY, 1) in api.of(m.Credit)[-1].warm)
        (pid,) = (p for p in children() - before if is_miniworker(p, worker.process.pid))
        os.kill(pid, signal.SIGSTOP)
        api.start(2)
        # It was sent when the worker has seen it, and can never be read.
        await soon(lambda: api.of(m.Credit)[-1].seen == 3)
        os.kill(pid, signal.SIGKILL)
        returned = await api.get(m.Returned)
        assert (returned.call, returned.fault) == (2, Fault.NONE)
        assert not [end for end in api.ends() if end.call == 2]
        cold, _ = await api.call(3)
        assert cold.outcome is not None
        assert cold.outcome.made is not None
        assert cold.outcome.made.because == m.ColdBecause.DIED


async def test_what_waits_behind_a_head_that_turns_out_slow_comes_back(tmp_path: Path) -> None:
    with node(tmp_path / "d", "--slots", "1") as (api, _):
        await joined(api)
        await api.call(1)
        call = 1
        while not any(warm.ahead for c in api.of(m.Credit) for warm in c.warm):
            # Fast calls, one after another, until the worker trusts them to be fast.
            await soon(lambda: any(w.idle for w in api.of(m.Credit)[-1].warm))
            call += 1
            api.start(call)
            await api.end(call)
        await soon(lambda: any(w.idle for w in api.of(m.Credit)[-1].warm))
        api.start(call + 1, {"sleep_s": 30}, timeout_ms=60_000)
        api.start(call + 2)
        assert (await api.get(m.Returned)).call == call + 2
        assert not [end for end in api.ends() if end.call > call]


async def test_a_dead_zygote_is_replaced(tmp_path: Path) -> None:
    before = children()
    with node(tmp_path / "d") as (api, worker):
        await joined(api)
        api.prepare(1)
        await api.get(m.Ready)
        api.start(1, {"sleep_s": 60})
        await soon(lambda: api.of(m.Credit)[-1].seen == 2)
        mine = children() - before
        zygote = next(pid for pid in mine if is_zygote(pid, worker.process.pid))
        os.kill(zygote, signal.SIGKILL)
        result, _ = await api.end(1)
        assert result.outcome is not None
        assert result.outcome.status is Status.LOST
        await soon(lambda: not (mine - {worker.process.pid}) & children())
        await api.call(2)


def is_zygote(pid: int, parent: int) -> bool:
    return int(stat(pid)[1]) == parent


def is_miniworker(pid: int, worker: int) -> bool:
    """Return whether the zygote of a worker forked it, into a session of its own."""
    return int(stat(pid)[3]) == pid and is_zygote(int(stat(pid)[1]), worker)


def stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


async def test_a_timeout_a_cancel_and_a_deaf_agent_end_calls(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, _):
        await joined(api)
        api.prepare(1)
        await api.get(m.Ready)
        api.start(1, {"sleep_s": 60}, timeout_ms=1000)
        timed_out, _ = await api.end(1)
        assert timed_out.outcome is not None
        assert timed_out.outcome.status is Status.TIMEOUT
        api.prepare(2)
        await api.get(m.Ready, 2)
        api.start(2, {"deaf": True})
        await soon(lambda: api.of(m.Credit)[-1].free == 1)
        why = Reason(code="cancelled", message="by the user")
        api.say(m.Cancel(session=1, call=2, attempt=1, reason=why))
        cancelled, _ = await api.end(2)
        assert cancelled.outcome is not None
        assert cancelled.outcome.status is Status.CANCELLED


async def one_runs_and_one_waits(api: ScriptedApi) -> None:
    """Have call 1 run for half a second, and call 2 hold a sandbox that it may not use yet."""
    await joined(api)
    api.prepare(1)
    api.prepare(2)
    await api.get(m.Ready, 2)
    api.start(1, {"sleep_s": 0.5})
    await soon(lambda: api.of(m.Credit)[-1].seen == 3)


async def test_a_drain_finishes_what_runs_and_hands_back_the_rest(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, worker):
        await one_runs_and_one_waits(api)
        worker.send(signal.SIGTERM)
        returned = await api.get(m.Returned)
        assert returned.call == 2
        await soon(lambda: any(b.state == "draining" for b in api.of(m.WorkerHeartbeat)))
        result, _ = await api.end(1)
        assert result.outcome is not None
        assert result.outcome.status is Status.DONE
        assert worker.process.poll() is None
        api.say(m.Recorded(session=1, upto=1))
        await api.get(m.Bye)
        await soon(lambda: worker.process.poll() is not None)
        assert worker.process.returncode == 0


async def test_an_order_to_drain_is_kept_until_it_is_taken_back(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, worker):
        await one_runs_and_one_waits(api)
        api.say(m.Drain(session=1))
        assert (await api.get(m.Returned)).call == 2
        await soon(lambda: any(b.state == "draining" for b in api.of(m.WorkerHeartbeat)))
        await api.end(1)
        api.say(m.Recorded(session=1, upto=1))
        await soon(lambda: api.of(m.Credit)[-1].free == 0)
        # Another session, or another api: it is the node that knows.
        api.say_who()
        await api.welcome(*items(package()), session=2)
        await soon(lambda: api.of(m.WorkerHeartbeat)[-1:])
        assert api.of(m.WorkerHeartbeat)[0].state == "draining"
        assert (await api.get(m.Credit)).free == 0
        assert worker.process.poll() is None
        api.say(m.Resume(session=2))
        await soon(lambda: api.of(m.Credit)[-1].free == 2)
        await soon(lambda: api.of(m.WorkerHeartbeat)[-1].state == "up")
        await api.call(3)


async def test_the_grace_of_a_drain_ends(tmp_path: Path) -> None:
    with node(tmp_path / "d", "--grace", "0.2") as (api, worker):
        await joined(api)
        api.prepare(1)
        await api.get(m.Ready)
        api.start(1, {"sleep_s": 60})
        # Only then has it read START; before, it would hand the attempt back.
        await soon(lambda: api.of(m.Credit)[-1].seen == 2)
        assert await worker.stop() == 0
        result, _ = await api.end(1)
        assert result.outcome is not None
        assert result.outcome.status is Status.LOST
        await api.get(m.Bye)


async def test_a_cut_lifeline_ends_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    (tmp_path / "d").mkdir()
    api = ScriptedApi()
    worker = Worker(api, tmp_path / "d", "--lifeline-fd", str(reader), keep=(reader,))
    try:
        os.close(reader)
        await joined(api)
        os.close(writer)
        await soon(lambda: worker.process.poll() is not None)
        assert worker.process.returncode == 0
    finally:
        worker.close()
        api.close()


async def test_idle_sandboxes_leave(tmp_path: Path) -> None:
    with node(tmp_path / "d", "--idle", "0.2") as (api, _):
        await joined(api)
        await api.call(1)
        await soon(lambda: m.Warm(KEY, 1) in api.of(m.Credit)[-1].warm)
        await soon(lambda: m.Warm(KEY, 0) in api.of(m.Credit)[-1].warm)


@settings(max_examples=5, deadline=None)
@given(noise=st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=5), max_size=30))
def test_random_bytes_from_an_api_change_nothing(noise: list[list[bytes]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder, node(Path(folder)) as (api, _):
            await joined(api)
            await api.get(m.Credit)
            heads = [bytes((0xA5, 1, kind)) for kind in (*range(50), 255)]
            for i, frames in enumerate(noise):
                api.link.send([api.peer, *frames])
                api.link.send([api.peer, heads[i % len(heads)], *frames[:1], b""])
                api.publisher.send_multipart([m.TOPIC_CATALOGUE, *frames])
                api.publisher.send_multipart(
                    [m.TOPIC_CANCEL, heads[-i % len(heads)], *frames[:1], b""]
                )
            await api.call(1, {"still": "there"})

    asyncio.run(run())
