"""The clients of an installation under test: what they asked for, and what they were told."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import urlsplit

from skep import Call, Client, SkepError

#: Which function may run twice: by its settings.
KINDS: Final[dict[str, dict[str, Any]]] = {
    "once": {},
    "again": {"idempotent": True},
    "retried": {"retries": 2},
}
ENDED: Final = ("DONE", "FAILED", "TIMEOUT", "OOM", "LOST", "CANCELLED")
#: A synchronous client waits so long for the end, any client so long for an answer.
WAIT_S: Final = 15
PATIENCE_S: Final = 20.0
#: A client with a key asks again until it is answered, so often at most.
ASKS: Final = 60
_REFUSED_PAUSE_S: Final = 0.2


@dataclass
class Load:
    """What clients did, and what they were told."""

    url: str
    #: Where functions find the witness.
    places: Sequence[tuple[str, int]]
    #: Accepted calls: what was asked, by callNum.
    accepted: dict[int, tuple[str, int]] = field(default_factory=dict)
    #: Answered calls (200): the record, and when it came (monotonic), by callNum.
    answered: dict[int, tuple[Call, float]] = field(default_factory=dict)
    #: Those of them that had no key: only they may be answered before they are stored.
    keyless: set[int] = field(default_factory=set)
    #: What each key was answered, a callNum each time.
    keys: dict[str, set[int]] = field(default_factory=dict)
    asked_again: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextmanager
    def running(self, clients: int = 4, calls: int | None = None) -> Iterator[None]:
        """Call while the block runs, or ``calls`` times; clients are of three kinds in turn."""
        self._stop.clear()
        left = iter(range(calls)) if calls is not None else itertools.count()
        kinds = (self._wait, self._submit, self._insist)
        with ThreadPoolExecutor(clients, thread_name_prefix="load") as pool:
            one = [pool.submit(self._go_on, kinds[n % 3], left) for n in range(clients)]
            try:
                yield
            finally:
                if calls is None:
                    self._stop.set()
                for each in one:
                    each.result()

    def _go_on(self, kind: Any, left: Iterator[int]) -> None:
        with Client(self.url, retries=0, timeout=PATIENCE_S) as client:
            while not self._stop.is_set() and next(left, None) is not None:
                number = next(self._numbers)
                name = list(KINDS)[number % len(KINDS)]
                params = {"n": number, "s": number % 5 * 0.05, "places": self.places}
                try:
                    kind(client, name, number, params)
                except SkepError as error:
                    self.refused[error.code] += 1
                    self._stop.wait(_REFUSED_PAUSE_S)

    def _submit(self, client: Client, name: str, number: int, params: Any) -> None:
        """Want a 202."""
        call = client.submit_call(name, params)
        self._note(call, name, number)
        self._stop.wait(0.05)

    def _insist(self, client: Client, name: str, number: int, params: Any) -> None:
        """Ask with a key until there is an answer: all of them must be of one call."""
        key = f"faults-{number}"
        for _ in range(ASKS):
            try:
                call = client.submit_call(name, params, wait=WAIT_S, idempotency_key=key)
            except SkepError as error:
                self.refused[error.code] += 1
                self.asked_again += 1
                time.sleep(_REFUSED_PAUSE_S)
                continue
            self.keys.setdefault(key, set()).add(call["callNum"])
            self._note(call, name, number)
            # The answer came, and yet it may have been lost on its way to somebody.
            if number % 4 == 0 and not self._stop.is_set():
                again = client.submit_call(name, params, wait=WAIT_S, idempotency_key=key)
                self.keys[key].add(again["callNum"])
            return

    def _wait(self, _: Client, name: str, number: int, params: Any) -> None:
        """Want a 200, without a key: the record follows the answer."""
        where = urlsplit(self.url)
        connection = http.client.HTTPConnection(where.netloc, timeout=PATIENCE_S)
        body = json.dumps({"funcName": name, "params": params})
        try:
            head = {"Content-Type": "application/json"}
            connection.request("POST", f"/invokeFunction?wait={WAIT_S}", body, head)
            answer = connection.getresponse()
            call = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            # Whether it was accepted nobody knows; what ran is counted all the same.
            self.refused["broken"] += 1
            self._stop.wait(_REFUSED_PAUSE_S)
            return
        finally:
            connection.close()
        if answer.status >= 300:
            self.refused[call["error"]["code"]] += 1
            self._stop.wait(_REFUSED_PAUSE_S)
            return
        if answer.status == 200:
            self.keyless.add(call["callNum"])
        self._note(cast("Call", call), name, number)

    def _note(self, call: Call, name: str, number: int) -> None:
        self.accepted[call["callNum"]] = (name, number)
        if call["status"] in ENDED:
            self.answered[call["callNum"]] = call, time.monotonic()
