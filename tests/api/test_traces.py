"""traceparent from the request to START, and through whatever is restarted meanwhile."""

from __future__ import annotations

import asyncio
import signal

from tests.api.room import open_room
from wire.messages import Prepare, Ready

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACED = {"traceparent": PARENT, "tracestate": "rojo=1"}


async def test_a_trace_goes_with_a_call_and_its_absence_too() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        for headers, sent in (
            (TRACED, (PARENT, "rojo=1")),
            ({}, ("", "")),
            ({**TRACED, "traceparent": f"ff{PARENT[2:]}"}, ("", "")),
        ):
            worker.credit(1, dice=1)
            body = {"funcName": "dice"}
            asking = asyncio.ensure_future(
                room.ask("POST", "/invokeFunction?wait=10", body, headers=headers)
            )
            start, _ = await worker.start()
            assert (start.traceparent, start.tracestate) == sent
            worker.result(start.call, start.attempt)
            status, answer, _ = await asking
            assert (status, answer["traceparent"]) == (200, sent[0] or None)


async def test_a_trace_outlives_the_api() -> None:
    async with open_room() as room:
        await room.register()
        first = await room.worker()
        body = {"funcName": "dice"}
        status, record, _ = await room.ask("POST", "/invokeFunction", body, headers=TRACED)
        assert (status, record["traceparent"]) == (202, PARENT)
        assert room.api is not None
        await asyncio.to_thread(room.api.end, signal.SIGKILL)
        first.close()
        await room.start_api()
        worker = await room.worker("node2")
        worker.credit(1)
        prepare, _ = await worker.next(Prepare)
        assert prepare.call == record["callNum"]
        worker.send(Ready(session=worker.session, call=prepare.call, attempt=prepare.attempt))
        start, _ = await worker.start()
        assert (start.traceparent, start.tracestate) == (PARENT, "rojo=1")
        worker.result(start.call, start.attempt)
        status, answer, _ = await room.ask("GET", f"/call/{start.call}?wait=10")
        assert (answer["status"], answer["traceparent"]) == ("DONE", PARENT)
