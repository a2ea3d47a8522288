"""What an earlier life of this api left: read at start, judged when everybody had time.

Also results of calls that nobody here knows: a worker repeats them with record and params, so
that a call that was answered but not stored is not lost with the api's memory.
"""

from __future__ import annotations

import logging
import time

import msgspec

from api.catalogue import Catalogue
from api.live import Live
from api.revival import revive
from api.store import Lane, Store, boot_time
from wire.about import about
from wire.errors import SkepError, UnknownCall
from wire.liveness import LOST_S, SILENT_S
from wire.models import Call, CallRecord, Function, Runtime, Spec
from wire.records import CallGot, CallsUnfinished, GetCall, UnfinishedCalls

log = logging.getLogger(__name__)

_RECORD = msgspec.json.Decoder(CallRecord)


class Past:
    """The nodes that calls of an earlier life name, and until when they may come back."""

    def __init__(self) -> None:
        self._awaited: set[str] = set()
        self._from = self._until = 0.0
        self._open = False

    def __repr__(self) -> str:
        return f"<Past waits for {len(self._awaited)} nodes>"

    def expect(self, lives: list[Live], now: float) -> None:
        """These calls were read: their nodes have the liveness limit to come back."""
        self._awaited = {live.node_id for live in lives if live.node_id is not None}
        # No START of these waited for its record: a node may have one that the store has not.
        unsure = any(live.node_id is None and not live.needs_gate for live in lives)
        self._from = now + SILENT_S if unsure else now
        self._until = now + LOST_S
        self._open = bool(lives)

    def is_due(self, back: set[str], now: float) -> bool:
        """Return, once, whether the calls can be judged: all are back, or time is over."""
        if not self._open or now < self._from:
            return False
        if self._awaited - back and now < self._until:
            return False
        self._open = False
        return True


async def unfinished(
    store: Store, catalogue: Catalogue, api: str, keep_bytes: int
) -> list[Live]:
    """Read every call of this api that has no end in the store.

    Beyond ``keep_bytes`` the params of those that no node has are left there.
    """
    lives: list[Live] = []
    after = kept = 0
    while True:
        request = UnfinishedCalls(api=api, after=after)
        page = await store.ask("reads", request, CallsUnfinished, None)
        for live in (again(record, catalogue) for record in page.records):
            kept += live.params_size
            if kept > keep_bytes and live.node_id is None and not live.sync:
                live.leave_params()
            lives.append(live)
        if not (page.more and page.records):
            return lives
        after = page.records[-1].call.call_num


def again(record: CallRecord, catalogue: Catalogue) -> Live:
    """Make a call of a record, pinned as it was."""
    now_ms = time.time_ns() // 1_000_000
    call = record.call
    spec = catalogue.pinned(
        call.project, call.func_name, call.revision, record.runtime_revision
    )
    if spec is None:
        log.warning(
            "it is pinned to a revision that is gone",
            extra=about(call=call.call_num, function=call.func_name),
        )
        # It cannot run any more; as a synchronous one it will end, and never be dispatched.
        record = msgspec.structs.replace(record, sync=True)
        spec = _gone(call, record.runtime_revision)
    return revive(record, spec, boot_time(), now_ms)


async def stored(store: Store, num: int, lane: Lane = "reads") -> CallRecord | None:
    """Return the stored record of a call, None if there is none; waits for the store."""
    try:
        return (await store.ask(lane, GetCall(call_num=num), CallGot, None)).record
    except UnknownCall:
        return None


def repeated(record: bytes, params: bytes) -> CallRecord:
    """Read the record that a worker repeats with a result, and put its params back in.

    Raises:
        SkepError: it is none.
    """
    try:
        read = _RECORD.decode(record)
    except (ValueError, RecursionError) as error:
        raise SkepError(f"a worker repeated a record that is none: {error}") from error
    call = msgspec.structs.replace(read.call, params=msgspec.Raw(params or b"{}"))
    return msgspec.structs.replace(read, call=call)


def _gone(call: Call, runtime_revision: int) -> Spec:
    return Spec(
        function=Function(
            function_name=call.func_name,
            runtime_name=call.runtime_name,
            revision=call.revision,
            project=call.project,
        ),
        runtime=Runtime(name=call.runtime_name, image="", path="/", revision=runtime_revision),
    )
