"""``Idempotency-Key``: the same key is the same call, however often the request comes.

A key is kept with its call's record, so it is as durable as the call. Here are only the keys
whose first request is under way; of all others the DB node knows whether there is a call. A
key whose request was refused is nobody's: the next one begins anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from api.bodies import InvokeFunction
from api.live import Live
from api.store import Store
from wire.errors import BadRequest, Conflict, SkepError, StoreUnavailable, UnknownCall
from wire.models import KEY_PATTERN
from wire.records import CallGot, FindCall


@dataclass(frozen=True, slots=True)
class Key:
    """What a client calls a request, and a digest of what the request asks."""

    text: str
    digest: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The one call of a key; ``replayed`` if another request had it accepted."""

    num: int
    digest: str
    replayed: bool


def key_of(header: str | None, body: InvokeFunction) -> Key | None:
    """Return the key of a request, None if it has none.

    Raises:
        BadRequest: it cannot be one.
    """
    if header is None:
        return None
    if not re.match(KEY_PATTERN, header):
        raise BadRequest(
            f"Idempotency-Key {header[:80]!r} is not 1 to 255 visible ASCII characters",
            hint="a random UUID for each call you want made is a good one",
        )
    return Key(header, _digest(body))


def _digest(body: InvokeFunction) -> str:
    """Return what two requests have alike that ask the same, in whatever spelling."""
    asked = {
        field: getattr(body, field) for field in body.__struct_fields__ if field != "params"
    }
    # Numbers to the last digit, however large: as floats, two of them might be the same.
    asked["params"] = json.loads(bytes(body.params), parse_int=Decimal, parse_float=Decimal)
    plain = json.dumps(asked, sort_keys=True, default=lambda number: {"number": str(number)})
    return hashlib.blake2b(plain.encode(), digest_size=16).hexdigest()


class Keyed:
    """Sees to it that each key has one call."""

    def __init__(self, store: Store, living: Callable[[int], Live | None]) -> None:
        self._store = store
        self._living = living
        self._first: dict[str, asyncio.Future[Accepted]] = {}

    def __repr__(self) -> str:
        return f"<Keyed, {len(self._first)} under way>"

    async def once(self, key: Key, accept: Callable[[], Awaitable[int]]) -> Accepted:
        """Return the call of a key; ``accept`` makes it durably, if there is none.

        Raises:
            Conflict: the key was used for another request.
            SkepError: this request, or the one it repeats, was refused.
        """
        first = self._first.get(key.text)
        if first is None:
            accepted = await self._lead(key, accept)
        else:
            accepted = replace(await asyncio.shield(first), replayed=True)
        if accepted.digest != key.digest:
            raise Conflict(
                f"the Idempotency-Key {key.text!r} was used for another request",
                hint=f"GET /call/{accepted.num} shows that call; a new request needs a new key",
            )
        return accepted

    async def _lead(self, key: Key, accept: Callable[[], Awaitable[int]]) -> Accepted:
        future: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._first[key.text] = future
        try:
            accepted = await self._stored(key) or Accepted(await accept(), key.digest, False)
            future.set_result(accepted)
        except BaseException as error:
            future.set_exception(_told(error))
            # Nobody may be waiting for it.
            future.exception()
            raise
        finally:
            del self._first[key.text]
        return accepted

    async def _stored(self, key: Key) -> Accepted | None:
        try:
            request = FindCall(idempotency_key=key.text)
            record = (await self._store.ask("reads", request, CallGot)).record
        except UnknownCall:
            return None
        num = record.call.call_num
        live = self._living(num)
        if live is not None and live.idempotency_key != key.text:
            # It was refused after all; the store learns that before it learns of a new call.
            return None
        return Accepted(num, record.idempotency_digest or key.digest, True)


def _told(error: BaseException) -> SkepError:
    """Return what a request is told that waited for another one with its key."""
    if isinstance(error, SkepError):
        return error
    return StoreUnavailable(
        "the first request with this Idempotency-Key broke off", hint="send it again"
    )
