"""The rules of epochs and call numbers: who may write, and which number is whose.

Pure and persistent, as the catalogue. A lease is durable before it is answered, so a number
is never given twice; numbers that nobody used are gaps, which is allowed. Only the unused
tail of the newest lease comes back.
"""

from __future__ import annotations

from msgspec.structs import replace

from wire.errors import StaleEpoch
from wire.models import Model, Name, Number
from wire.records import ApiOpened, CallsLeased, CallsReturned, LeaseCalls, ReturnCalls


class Lease(Model, frozen=True, kw_only=True):
    """The numbers ``first`` to ``first + count - 1`` of one api."""

    api: Name
    first: Number
    count: Number


class Ledger(Model, frozen=True, kw_only=True):
    """The newest epoch of each api, the next call number, and the newest lease."""

    apis: dict[str, int] = {}
    next_call: Number = 1
    newest: Lease | None = None


def open_api(ledger: Ledger, api: str) -> tuple[Ledger, ApiOpened]:
    """Give an api that starts its epoch, which fences every older life of that name."""
    epoch = ledger.apis.get(api, 0) + 1
    return replace(ledger, apis={**ledger.apis, api: epoch}), ApiOpened(epoch=epoch)


def fence(ledger: Ledger, api: str, epoch: int) -> Ledger:
    """Let the newest life of an api through.

    An epoch higher than ever given is believed and kept: the store may have been restored
    from an older copy, or made anew, while the api lived.

    Raises:
        StaleEpoch: a newer process has taken over the name.
    """
    newest = ledger.apis.get(api, 0)
    if epoch < newest:
        raise StaleEpoch(
            f"api {api!r} of epoch {epoch} has been replaced: epoch {newest} writes now",
            hint="two apis must not share a name: stop the older one, or give it --name",
        )
    if epoch == newest:
        return ledger
    return replace(ledger, apis={**ledger.apis, api: epoch})


def lease(ledger: Ledger, request: LeaseCalls) -> tuple[Ledger, CallsLeased]:
    """Reserve the next numbers for an api."""
    ledger = fence(ledger, request.api, request.epoch)
    first, count = ledger.next_call, request.count
    newest = Lease(api=request.api, first=first, count=count)
    after = replace(ledger, next_call=first + count, newest=newest)
    return after, CallsLeased(first=first, count=count)


def give_back(
    ledger: Ledger, request: ReturnCalls, highest: int
) -> tuple[Ledger, CallsReturned]:
    """Take back the tail of the newest lease; ``highest`` is the newest recorded number."""
    ledger = fence(ledger, request.api, request.epoch)
    newest = ledger.newest
    is_tail = (
        newest is not None
        and newest.api == request.api
        and newest.first <= request.first
        and request.first + request.count == ledger.next_call
        and highest < request.first
    )
    if newest is None or not is_tail:
        return ledger, CallsReturned(returned=False)
    left = request.first - newest.first
    kept = replace(newest, count=left) if left else None
    return replace(ledger, next_call=request.first, newest=kept), CallsReturned(returned=True)


def used(ledger: Ledger, highest: int) -> Ledger:
    """Never give a number that a record has, whoever gave it."""
    if highest < ledger.next_call:
        return ledger
    return replace(ledger, next_call=highest + 1, newest=None)
