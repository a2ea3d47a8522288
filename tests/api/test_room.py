"""The api as a process: over real sockets, with a real DB node and scripted workers."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.api.room import open_room
from tests.conftest import soon
from wire.messages import Cancel, Prepare, Ready, Recorded, Returned
from wire.models import Fault, Reason, Status


async def test_the_seed_session() -> None:
    async with open_room() as room:
        body = {
            "image": "pythonruntime",
            "path": "/ws",
            "dependencies": "pip3 install -r requirements.txt",
            "run": "python3 test.py",
        }
        status, runtime, _ = await room.ask("POST", "/registerRuntime", body)
        assert status == 201
        assert (runtime["name"], runtime["revision"]) == ("pythonruntime", 1)
        assert runtime["agent"] == "python"
        assert (await room.ask("POST", "/registerRuntime", body))[0] == 200
        await room.register()
        assert (await room.ask("GET", "/runtimes"))[1] == ["pythonruntime"]
        assert (await room.ask("GET", "/functions"))[1] == ["dice"]
        assert (await room.ask("GET", "/readyz"))[0] == 503
        status, answer = await room.invoke()
        assert (status, answer["error"]["code"]) == (503, "no_worker")

        worker = await room.worker()
        assert (await room.ask("GET", "/readyz"))[0] == 200
        status, record = await room.invoke()
        assert status == 202
        assert list(record)[:5] == ["funcName", "params", "callNum", "status", "result"]
        assert record["status"] == "PENDING"
        assert record["params"] == {"roll": "4d6"}
        worker.credit(1)
        prepare, _ = await worker.next(Prepare)
        worker.send(Ready(session=worker.session, call=prepare.call, attempt=1))
        start, params = await worker.start()
        assert params == b'{"roll": "4d6"}'
        status, answer, _ = await room.ask("GET", f"/call/{start.call}")
        assert answer["status"] == "RUNNING"
        worker.result(start.call, start.attempt)
        status, answer, _ = await room.ask("GET", f"/call/{start.call}?wait=10")
        assert (status, answer["status"], answer["result"]) == (200, "DONE", "[4,6,4,3]")
        recorded, _ = await worker.next(Recorded)
        assert recorded.upto == 1
        status, calls, _ = await room.ask("GET", "/calls")
        assert list(calls) == [f"c{record['callNum']}"]
        assert calls[f"c{record['callNum']}"] == answer


async def test_a_warm_synchronous_call() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(4, dice=1)
        asking = asyncio.ensure_future(room.invoke("?wait=10"))
        start, _ = await worker.start()
        worker.result(start.call, start.attempt, stdout=b"log\n")
        status, answer = await asking
        assert (status, answer["status"]) == (200, "DONE")
        assert answer["attempts"][0]["status"] == "DONE"
        assert answer["duration"] == 0.003
        status, text, _ = await room.ask("GET", f"/call/{answer['callNum']}/logs")
        assert text == "log\n"
        status, logs, _ = await room.ask(
            "GET", f"/call/{answer['callNum']}/logs", headers={"Accept": "application/json"}
        )
        assert logs == {"stdout": "log\n", "stderr": "", "omitted": 0}


async def test_an_expired_wait_is_a_promise() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        status, answer = await room.invoke("?wait=0.05")
        assert (status, answer["status"]) == (202, "PENDING")
        worker.credit(1, dice=1)
        start, _ = await worker.start()
        worker.result(start.call, 1)
        status, answer, _ = await room.ask("GET", f"/call/{start.call}?wait=10")
        assert answer["status"] == "DONE"


async def test_returned_by_fault() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(1)
        asking = asyncio.ensure_future(room.invoke("?wait=20"))
        for attempt in (1, 2, 3):
            prepare, _ = await worker.next(Prepare)
            assert prepare.attempt == attempt
            worker.seen += 1
            worker.send(
                Returned(
                    session=worker.session,
                    call=prepare.call,
                    attempt=attempt,
                    fault=Fault.NODE,
                    reason=Reason(code="no_space", message="disk full"),
                )
            )
            worker.credit(1)
        status, answer = await asking
        assert (status, answer["status"]) == (200, "FAILED")
        assert answer["reason"]["code"] == "no_sandbox"
        assert "disk full" in answer["reason"]["message"]

        asking = asyncio.ensure_future(room.invoke("?wait=20"))
        prepare, _ = await worker.next(Prepare)
        worker.send(
            Returned(
                session=worker.session,
                call=prepare.call,
                attempt=1,
                fault=Fault.FUNCTION,
                reason=Reason(code="install_failed", message="pip said no"),
                log="no such package\n",
            )
        )
        status, answer = await asking
        assert answer["reason"]["code"] == "install_failed"
        status, text, _ = await room.ask("GET", f"/call/{answer['callNum']}/logs")
        assert text == "no such package\n"


async def test_cancel_in_every_state() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        _, queued = await room.invoke()
        status, answer, _ = await room.ask("DELETE", f"/call/{queued['callNum']}")
        assert (status, answer["status"]) == (200, "CANCELLED")
        worker.credit(1, dice=1)
        await room.invoke()
        start, _ = await worker.start()
        status, answer, _ = await room.ask("DELETE", f"/call/{start.call}")
        assert (status, answer["status"]) == (202, "RUNNING")
        cancel, _ = await worker.next(Cancel)
        assert (cancel.call, cancel.attempt) == (start.call, 1)
        worker.send(Returned(session=worker.session, call=start.call, attempt=1))
        status, answer, _ = await room.ask("GET", f"/call/{start.call}?wait=10")
        assert answer["status"] == "CANCELLED"
        status, again, _ = await room.ask("DELETE", f"/call/{start.call}")
        assert (status, again["status"]) == (200, "CANCELLED")


async def test_the_api_restarts_alone() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(1, dice=1)
        _, running = await room.invoke()
        _, waiting = await room.invoke()
        start, params = await worker.start()
        assert start.call == running["callNum"]
        assert room.api is not None
        await asyncio.to_thread(room.api.end, signal.SIGKILL)
        worker.close()
        await room.start_api()
        _, answer, _ = await room.ask("GET", f"/call/{running['callNum']}")
        assert answer["status"] in ("PENDING", "RUNNING")
        again = await room.worker(running=[(start.call, start.attempt)])
        again.result(start.call, start.attempt, record=start.record, params=params)
        _, answer, _ = await room.ask("GET", f"/call/{running['callNum']}?wait=10")
        assert (answer["status"], answer["result"]) == ("DONE", "[4,6,4,3]")
        assert answer["params"] == {"roll": "4d6"}
        await again.next(Recorded)
        again.credit(1, dice=1)
        second, _ = await again.start()
        assert second.call == waiting["callNum"]


async def test_an_answered_call_survives_the_api() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(1, dice=1)
        assert room.db is not None
        assert room.api is not None
        await room.invoke()  # leases numbers
        start, _ = await worker.start()
        worker.result(start.call, 1)
        await worker.next(Recorded)
        await asyncio.to_thread(room.db.end, signal.SIGKILL)
        worker.credit(1, dice=1)
        asking = asyncio.ensure_future(room.invoke("?wait=20"))
        start, params = await worker.start()
        worker.result(start.call, 1)
        status, answer = await asking
        assert (status, answer["status"]) == (200, "DONE")
        assert worker.take(Recorded) is None
        await asyncio.to_thread(room.api.end, signal.SIGKILL)
        worker.close()
        await room.start_db()
        await room.start_api()
        again = await room.worker(running=[(start.call, 1)])
        again.result(start.call, 1, record=start.record, params=params)
        recorded, _ = await again.next(Recorded)
        assert recorded.upto == 1
        _, kept, _ = await room.ask("GET", f"/call/{start.call}")
        assert (kept["status"], kept["result"]) == ("DONE", "[4,6,4,3]")
        assert kept["acceptedAt"] == answer["acceptedAt"]


async def test_the_db_node_restarts_alone() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        _, before = await room.invoke()
        assert room.db is not None
        await asyncio.to_thread(room.db.end, signal.SIGKILL)
        asking = asyncio.ensure_future(room.invoke())
        status, answer = await asking
        assert (status, answer["error"]["code"]) == (503, "store_unavailable")
        await room.start_db()
        worker.credit(1, dice=1)
        start, _ = await worker.start()
        assert start.call == before["callNum"]
        worker.result(start.call, 1)
        await worker.next(Recorded)
        _, refused, _ = await room.ask("GET", f"/call/{before['callNum'] + 1}?wait=10")
        assert refused["status"] == "CANCELLED"


async def test_what_was_given_up_is_not_accepted_although_it_is_stored_in_the_end() -> None:
    async with open_room() as room:
        await room.register()
        await room.worker()
        _, before = await room.invoke()
        assert room.db is not None
        os.kill(room.db.pid, signal.SIGSTOP)
        try:
            asking = asyncio.ensure_future(room.invoke())
            path = f"/call/{before['callNum'] + 1}"

            async def is_given_up() -> bool:
                return bool((await room.ask("GET", path))[1].get("status") == "CANCELLED")

            await soon(is_given_up)
        finally:
            os.kill(room.db.pid, signal.SIGCONT)
        status, answer = await asking
        assert (status, answer["error"]["code"]) == (503, "store_unavailable")


async def test_a_lost_worker() -> None:
    async with open_room() as room:
        await room.register(idempotent="true")
        worker = await room.worker()
        worker.credit(1, dice=1)
        asking = asyncio.ensure_future(room.invoke("?wait=40"))
        start, _ = await worker.start()
        worker.close()
        successor = await room.worker(boot="boot2")
        successor.credit(1, dice=1)
        second, _ = await successor.start()
        assert (second.call, second.attempt) == (start.call, 2)
        successor.result(second.call, 2)
        _, answer = await asking
        assert answer["status"] == "DONE"
        assert [a["status"] for a in answer["attempts"]] == ["LOST", "DONE"]
        assert answer["attempts"][0]["reason"]["code"] == "node_lost"


async def test_a_call_that_may_not_repeat_ends_lost() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(1, dice=1)
        asking = asyncio.ensure_future(room.invoke("?wait=40"))
        await worker.start()
        worker.close()
        successor = await room.worker(boot="boot2")
        _, answer = await asking
        assert (answer["status"], answer["reason"]["code"]) == ("LOST", "node_lost")
        assert Status(answer["status"]).is_terminal
        _, workers, _ = await room.ask("GET", "/workers")
        assert [(w["name"], w["state"]) for w in workers] == [("node1", "up")]
        assert successor.session > worker.session


async def test_stops_cleanly_and_gives_numbers_back() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(1, dice=1)
        _, first = await room.invoke()
        start, _ = await worker.start()
        worker.result(start.call, 1)
        await worker.next(Recorded)
        assert room.api is not None
        assert await asyncio.to_thread(room.api.end) == 0
        await room.start_api()
        worker.close()
        await room.worker()
        _, second = await room.invoke()
        assert second["callNum"] == first["callNum"] + 1
        _, calls, _ = await room.ask("GET", "/calls?order=desc&limit=1")
        assert list(calls) == [f"c{second['callNum']}"]


async def test_a_second_api_of_that_name_fences_the_first() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        first = room.api
        assert first is not None
        ipc = room.folder / "workers"
        await asyncio.to_thread(ipc.unlink)
        await room.start_api()
        assert worker is not None
        # The first one finds out with its next write.
        async with room.http.post(
            f"{first.facts['url']}/invokeFunction", json={"funcName": "dice"}
        ) as response:
            assert response.status in (202, 503)
        await soon(lambda: first.status is not None)
        assert first.status == 1


async def test_who_waits_when_the_api_stops_gets_a_promise() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(1, dice=1)
        asking = asyncio.ensure_future(room.invoke("?wait=60"))
        start, params = await worker.start()
        assert room.api is not None
        assert await asyncio.to_thread(room.api.end) == 0
        status, answer = await asking
        assert (status, answer["status"], answer["callNum"]) == (202, "RUNNING", start.call)
        worker.close()
        await room.start_api()
        again = await room.worker(running=[(start.call, 1)])
        again.result(start.call, 1, record=start.record, params=params)
        _, answer, _ = await room.ask("GET", f"/call/{start.call}?wait=20")
        assert answer["status"] == "DONE"


async def test_a_result_over_the_limit_fails_its_call_alone() -> None:
    async with open_room("--max-result", "100") as room:
        await room.register()
        worker = await room.worker()
        worker.credit(1, dice=1)
        asking = asyncio.ensure_future(room.invoke("?wait=20"))
        start, _ = await worker.start()
        worker.result(start.call, 1, b"x" * 101)
        _, answer = await asking
        assert (answer["status"], answer["result"]) == ("FAILED", "")
        assert answer["reason"]["code"] == "result_too_large"
        await worker.next(Recorded)


async def test_unfinished_fail() -> None:
    async with open_room("--unfinished", "fail") as room:
        await room.register()
        worker = await room.worker()
        _, waiting = await room.invoke()
        assert room.api is not None
        await asyncio.to_thread(room.api.end, signal.SIGKILL)
        worker.close()
        await room.start_api()
        _, answer, _ = await room.ask("GET", f"/call/{waiting['callNum']}?wait=20")
        assert (answer["status"], answer["reason"]["code"]) == ("LOST", "interrupted")
