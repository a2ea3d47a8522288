"""The verbs of skep as dialogues: what is sent, and what its answer is read as."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from typing import Any, Final, Literal

from skep.batch import Batch, Entry
from skep.dialogue import Answer, Archive, Dialogue, Pace, Request, exchange
from skep.preparing import Preparation
from skep.records import Call, Function, Health, Logs, Queue, Runtime, Versions, Worker
from skep.spelling import JSON, decode, encode, form, revised, segment, waiting
from skep.values import CallOptions, checked_key, is_ended

#: The longest that one request asks the server to wait; a longer wait is several requests.
WAIT_STEP_S: Final = 60.0
#: The longest that the dependencies of a function may take to install.
PREPARE_S: Final = 1800.0
_NEXT: Final = re.compile(r'<[^>]*[?&]after=(\d+)[^>]*>\s*;\s*rel="?next')


#: Takes the installer's output, piece by piece.
Told = Callable[[str], object]
_PAGE: Final = 1000


class Verbs:
    """All that can be said to one skep. Each method returns a dialogue for a shell."""

    def __init__(self, pace: Pace, new_key: Callable[[], str]) -> None:
        self._pace = pace
        self._new_key = new_key

    # --- calls -------------------------------------------------------------------------

    def submit(
        self,
        function: str,
        params: Any,
        *,
        wait: float | None = 0.0,
        key: str | None = None,
        settings: Mapping[str, Any],
    ) -> Dialogue[Call]:
        """Make a call; with ``wait``, look after it for so long (None: to its end)."""
        end = self.end(wait)
        step_s = self._step_s(end)
        call: Call = yield from self._ask(
            Request(
                method="POST",
                path="/invokeFunction",
                query=waiting(step_s),
                # One key for all attempts: however many arrive, the call is made once.
                headers={**JSON, "Idempotency-Key": self._key(key)},
                content=encode(_invocation(function, params, settings)),
                wait_s=step_s,
            )
        )
        return (yield from self.wait_until(call, end))

    def line(
        self, function: str, params: Any, key: str | None, settings: Mapping[str, Any]
    ) -> bytes:
        """Spell a call as one of a batch."""
        said = _invocation(function, params, settings)
        return encode({**said, "idempotencyKey": self._key(key)})

    def batch(
        self, entries: Sequence[Entry], wait: float | None, on_taken: Callable[[], object]
    ) -> Batch:
        """Return lines as a batch, whose calls are looked after for one step of a wait."""
        return Batch(entries, self._step_s(self.end(wait)), self._pace, on_taken)

    def make(
        self,
        function: str,
        params: Any,
        options: CallOptions,
        wait: float | None,
    ) -> Dialogue[Call]:
        """Make a call with the options of a handle."""
        return self.submit(
            function,
            params,
            wait=wait,
            key=options.idempotency_key,
            settings=options.settings(),
        )

    def wait(self, call: Call, wait: float | None) -> Dialogue[Call]:
        """Look after a call until it has ended, or for ``wait`` seconds."""
        return self.wait_until(call, self.end(wait))

    def wait_until(self, call: Call, end: float | None) -> Dialogue[Call]:
        """Look after a call until it has ended, or until a moment of the clock."""
        while not is_ended(call) and (step_s := self._step_s(end)) > 0:
            call = yield from self.call(call["callNum"], step_s, patient=True)
        return call

    def end(self, wait: float | None) -> float | None:
        """Return the moment of the clock that ends a wait of so many seconds from now."""
        return None if wait is None else self._pace.clock() + wait

    def call(self, number: int, wait: float = 0.0, *, patient: bool = False) -> Dialogue[Call]:
        """Read the record of a call."""
        path = f"/call/{int(number)}"
        return self._get(path, waiting(wait), wait_s=wait, is_patient=patient)

    def calls(self, query: Mapping[str, Any]) -> Dialogue[list[Call]]:
        """Read records, at most one page of them."""
        calls, _ = yield from self._page(query)
        return calls

    def page(
        self, query: Mapping[str, Any]
    ) -> Dialogue[tuple[list[Call], dict[str, Any] | None]]:
        """Read a page of records, and what to ask for the next one: None if there is none.

        Here ``limit`` bounds all pages together.
        """
        limit: int | None = query.get("limit")
        size = _PAGE if limit is None else min(_PAGE, limit)
        calls, after = yield from self._page({**query, "limit": size})
        left = None if limit is None else limit - len(calls)
        if after is None or left == 0:
            return calls, None
        return calls, {**query, "limit": left, "after": after}

    def logs(self, number: int) -> Dialogue[Logs]:
        """Read what a call printed."""
        return self._get(f"/call/{int(number)}/logs", headers={"Accept": "application/json"})

    def cancel(self, number: int) -> Dialogue[Call]:
        """End a call."""
        return self._ask(Request(method="DELETE", path=f"/call/{int(number)}"))

    # --- catalogue ---------------------------------------------------------------------

    def register_runtime(self, runtime: Mapping[str, Any]) -> Dialogue[Runtime]:
        """Make or change a runtime."""
        return self._send_json("POST", "/registerRuntime", dict(runtime))

    def runtime(self, name: str) -> Dialogue[Runtime]:
        """Read a runtime."""
        return self._get(f"/runtimes/{segment(name)}")

    def delete_runtime(self, name: str) -> Dialogue[None]:
        """Remove a runtime."""
        return self._remove(f"/runtimes/{segment(name)}")

    def register_function(
        self,
        runtime: str,
        name: str,
        package: Archive,
        settings: Mapping[str, Any],
        *,
        prepare: bool,
        on_log: Told | None,
    ) -> Dialogue[Function]:
        """Make a function, or a new revision of one."""
        said = {key: value for key, value in settings.items() if value is not None}
        path = f"/registerFunction/{segment(runtime)}/{segment(name)}"
        request = Request(method="POST", path=path, form=form(package, said))
        return self._change(request, prepare=prepare, on_log=on_log)

    def register_image(
        self, name: str, image: str, settings: Mapping[str, Any]
    ) -> Dialogue[Function]:
        """Register a function that is an image."""
        said = {key: value for key, value in settings.items() if value is not None}
        path = f"/registerFunction/image/{segment(name)}"
        return self._send_json("POST", path, {"image": image, **said})

    def update_function(
        self,
        name: str,
        package: Archive | None,
        settings: Mapping[str, Any],
        *,
        prepare: bool,
        on_log: Told | None,
    ) -> Dialogue[Function]:
        """Change a function; a setting that is None goes back to its default."""
        path = f"/functions/{segment(name)}"
        if package is None:
            content = encode(dict(settings))
            request = Request(method="PATCH", path=path, headers=JSON, content=content)
        else:
            request = Request(method="PATCH", path=path, form=form(package, settings))
        return self._change(request, prepare=prepare, on_log=on_log)

    def function(self, name: str, revision: int | None) -> Dialogue[Function]:
        """Read a function."""
        return self._get(f"/functions/{segment(name)}", revised(revision))

    def revisions(self, name: str) -> Dialogue[list[Function]]:
        """Read all revisions of a function."""
        return self._get(f"/functions/{segment(name)}/revisions")

    def delete_function(self, name: str) -> Dialogue[None]:
        """Remove a function."""
        return self._remove(f"/functions/{segment(name)}")

    def download(
        self, name: str, dest: PathLike[str] | str, revision: int | None
    ) -> Dialogue[str]:
        """Write the package of a function to a file, and say where."""
        answer = yield from self._exchange(
            Request(
                method="GET",
                path=f"/functions/{segment(name)}/package",
                query=revised(revision),
                into=fspath(dest),
            )
        )
        return answer.path

    # --- the platform ------------------------------------------------------------------

    def names(self, what: Literal["runtimes", "functions"]) -> Dialogue[list[str]]:
        """Read the names of all runtimes or functions."""
        return self._get(f"/{what}")

    def workers(self) -> Dialogue[list[Worker]]:
        """Read who works."""
        return self._get("/workers")

    def drain_worker(self, name: str, wait: float | None) -> Dialogue[Worker]:
        """Give a node nothing new; look after it until it is empty, or for ``wait`` seconds."""
        end = self.end(wait)
        worker: Worker = yield from self._drain(name, self._step_s(end))
        while not worker.get("drained") and worker["state"] == "draining":
            if (step_s := self._step_s(end)) <= 0:
                break
            worker = yield from self._drain(name, step_s)
        return worker

    def resume_worker(self, name: str) -> Dialogue[Worker]:
        """Give a node work again."""
        return self._ask(Request(method="POST", path=f"/workers/{segment(name)}/resume"))

    def delete_worker(self, name: str) -> Dialogue[None]:
        """Forget a node that is gone."""
        return self._remove(f"/workers/{segment(name)}")

    def queues(self) -> Dialogue[list[Queue]]:
        """Read what waits."""
        return self._get("/queues")

    def health(self) -> Dialogue[Health]:
        """Read whether the api lives."""
        return self._get("/healthz")

    def versions(self) -> Dialogue[Versions]:
        """Read what every process runs."""
        return self._get("/version")

    def metrics(self) -> Dialogue[str]:
        """Read the api's metrics."""
        answer = yield from self._exchange(Request(method="GET", path="/metrics"))
        return answer.body.decode(errors="replace")

    def _drain(self, name: str, step_s: float) -> Dialogue[Worker]:
        path = f"/workers/{segment(name)}/drain"
        return self._ask(
            Request(method="POST", path=path, query=waiting(step_s), wait_s=step_s)
        )

    # --- how ---------------------------------------------------------------------------

    def _key(self, key: str | None) -> str:
        return self._new_key() if key is None else checked_key(key)

    def _step_s(self, end: float | None) -> float:
        """Return how long the next request may wait."""
        if end is None:
            return WAIT_STEP_S
        return min(WAIT_STEP_S, max(0.0, end - self._pace.clock()))

    def _page(self, query: Mapping[str, Any]) -> Dialogue[tuple[list[Call], int | None]]:
        said = {key: str(value) for key, value in query.items() if value is not None}
        answer = yield from self._exchange(Request(method="GET", path="/calls", query=said))
        link = _NEXT.search(answer.headers.get("link", ""))
        return list(decode(answer).values()), int(link[1]) if link else None

    def _change(
        self, request: Request, *, prepare: bool, on_log: Told | None
    ) -> Dialogue[Function]:
        if not prepare:
            return self._ask(request)
        return Preparation(on_log).dialogue(request, PREPARE_S, self._pace)

    def _get(
        self, path: str, query: Mapping[str, str] | None = None, **more: Any
    ) -> Dialogue[Any]:
        return self._ask(Request(method="GET", path=path, query=query or {}, **more))

    def _send_json(self, method: str, path: str, body: Any) -> Dialogue[Any]:
        return self._ask(Request(method=method, path=path, headers=JSON, content=encode(body)))

    def _remove(self, path: str) -> Dialogue[None]:
        yield from self._exchange(Request(method="DELETE", path=path, is_removal=True))

    def _ask(self, request: Request) -> Dialogue[Any]:
        answer = yield from self._exchange(request)
        return decode(answer)

    def _exchange(self, request: Request) -> Dialogue[Answer]:
        return exchange(request, self._pace)


def _invocation(function: str, params: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in settings.items() if value is not None}
    return {"funcName": function, "params": params, **said}
