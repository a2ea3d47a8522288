"""The synchronous HTTP client: one method a verb."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import quote, urlsplit

import httpx

from skep.errors import NotReachable, from_answer
from skep.records import TERMINAL, Call, Function, Health, Logs, Queue, Runtime, Worker

DEFAULT_URL: Final = "http://127.0.0.1:3000"
#: The longest that one request asks the server to wait; a longer wait is several requests.
WAIT_STEP_S: Final = 60.0
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
NO_PARAMS: Final[Mapping[str, Any]] = {}


class Client:
    """Speaks HTTP with one skep; keeps its connection between calls.

    ``url`` defaults to ``SKEP_URL``, else to the local one. ``timeout`` is the number of
    seconds without an answer after which it counts as not reachable; waiting for a call
    is extra. Errors are raised as ``SkepError``, no answer as ``NotReachable``.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, timeout: float = 30.0
    ) -> None:
        self.url = (url or os.environ.get("SKEP_URL") or DEFAULT_URL).rstrip("/")
        self._timeout_s = timeout
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=timeout,
            # A proxy of the environment knows no way to this machine's own loopback.
            trust_env=urlsplit(self.url).hostname not in LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def register_runtime(self, runtime: Mapping[str, Any]) -> Runtime:
        """Register a runtime, given with the fields of its JSON; or change it."""
        return cast("Runtime", self._json("POST", "/registerRuntime", json=dict(runtime)))

    def register_function(
        self,
        runtime: str,
        name: str,
        package: Path | str | bytes,
        *,
        prepare: bool = False,
        on_log: Callable[[str], None] | None = None,
        **settings: Any,
    ) -> Function:
        """Upload an archive as a function of a runtime; settings are spelled as in HTTP."""
        path = f"/registerFunction/{quote(runtime, safe='')}/{quote(name, safe='')}"
        return self._upload("POST", path, package, settings, prepare=prepare, on_log=on_log)

    def update_function(
        self,
        name: str,
        package: Path | str | bytes | None = None,
        *,
        prepare: bool = False,
        on_log: Callable[[str], None] | None = None,
        **settings: Any,
    ) -> Function:
        """Change a function: its package, or any settings; None sets one back."""
        path = f"/functions/{quote(name, safe='')}"
        return self._upload("PATCH", path, package, settings, prepare=prepare, on_log=on_log)

    def submit_call(
        self,
        function: str,
        params: Any = NO_PARAMS,
        *,
        wait: float = 0.0,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Call:
        """Accept a call; return its record at once, or as it stands after ``wait`` seconds."""
        body = {"funcName": function, "params": params, **options}
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        end = _end_of(wait)
        answer = self._json(
            "POST", "/invokeFunction", wait=_step_s(end), json=body, headers=headers
        )
        return self.wait_call(cast("Call", answer), max(0.0, (end or 0.0) - time.monotonic()))

    def wait_call(self, call: Call, wait: float | None = None) -> Call:
        """Return the record of a call when it has ended, or after ``wait`` seconds."""
        end = _end_of(wait)
        while call["status"] not in TERMINAL and (step_s := _step_s(end)) > 0:
            call = self.call(call["callNum"], wait=step_s)
        return call

    def call(self, number: int, *, wait: float = 0.0) -> Call:
        """Return the record of a call, waiting up to ``wait`` seconds (0 to 300)."""
        return cast("Call", self._json("GET", f"/call/{number}", wait=wait))

    def calls(self, **query: Any) -> list[Call]:
        """Return records: query by ``order, limit, after, status, function``."""
        answer = self._json("GET", "/calls", params=query)
        return cast("list[Call]", list(answer.values()))

    def iter_calls(self, **query: Any) -> Iterator[Call]:
        """Give all records that ``calls`` would find, page after page."""
        limit = int(query.setdefault("limit", 1000))
        while page := self.calls(**query):
            yield from page
            if len(page) < limit:
                return
            query["after"] = page[-1]["callNum"]

    def logs(self, number: int) -> Logs:
        """Return what a call printed beside its result."""
        headers = {"Accept": "application/json"}
        return cast("Logs", self._json("GET", f"/call/{number}/logs", headers=headers))

    def cancel(self, number: int) -> Call:
        """Ask for the end of a call; return its record as it stands now."""
        return cast("Call", self._json("DELETE", f"/call/{number}"))

    def runtimes(self) -> list[str]:
        """Return the names of the runtimes."""
        return cast("list[str]", self._json("GET", "/runtimes"))

    def runtime(self, name: str) -> Runtime:
        """Return a runtime."""
        return cast("Runtime", self._json("GET", f"/runtimes/{quote(name, safe='')}"))

    def delete_runtime(self, name: str) -> None:
        """Remove a runtime that no function uses."""
        self._check(self._send("DELETE", f"/runtimes/{quote(name, safe='')}"))

    def functions(self) -> list[str]:
        """Return the names of the functions."""
        return cast("list[str]", self._json("GET", "/functions"))

    def get_function(self, name: str, revision: int | None = None) -> Function:
        """Return a function, or an older revision of it."""
        path = f"/functions/{quote(name, safe='')}"
        return cast("Function", self._json("GET", path, params=_revision(revision)))

    def revisions(self, name: str) -> list[Function]:
        """Return all revisions of a function, ascending."""
        path = f"/functions/{quote(name, safe='')}/revisions"
        return cast("list[Function]", self._json("GET", path))

    def delete_function(self, name: str) -> None:
        """Remove a function; accepted calls of it still run."""
        self._check(self._send("DELETE", f"/functions/{quote(name, safe='')}"))

    def download_function(
        self, name: str, dest: Path | str, revision: int | None = None
    ) -> Path:
        """Write the package of a function to the file ``dest``; return its path."""
        path = f"/functions/{quote(name, safe='')}/package"
        answer = self._check(self._send("GET", path, params=_revision(revision)))
        Path(dest).write_bytes(answer.content)
        return Path(dest)

    def workers(self) -> list[Worker]:
        """Return the workers that the api knows."""
        return cast("list[Worker]", self._json("GET", "/workers"))

    def queues(self) -> list[Queue]:
        """Return what waits and runs, by function and revision."""
        return cast("list[Queue]", self._json("GET", "/queues"))

    def health(self) -> Health:
        """Return that the api lives, and its version."""
        return cast("Health", self._json("GET", "/healthz"))

    def metrics(self) -> str:
        """Return the metrics of the api in the text format of Prometheus."""
        return self._check(self._send("GET", "/metrics")).text

    def _upload(
        self,
        method: str,
        path: str,
        package: Path | str | bytes | None,
        settings: Mapping[str, Any],
        *,
        prepare: bool,
        on_log: Callable[[str], None] | None,
    ) -> Function:
        request: dict[str, Any] = {"params": {"prepare": "true"}} if prepare else {}
        if package is None:
            request["json"] = dict(settings)
            return cast("Function", self._prepared(method, path, on_log, request))
        request["data"] = {key: _text(value) for key, value in settings.items()}
        with ExitStack() as stack:
            name = "package"
            content: Any = package
            if not isinstance(package, bytes):
                name = Path(package).name
                content = stack.enter_context(Path(package).open("rb"))
            request["files"] = {"module": (name, content, "application/octet-stream")}
            return cast("Function", self._prepared(method, path, on_log, request))

    def _prepared(
        self,
        method: str,
        path: str,
        on_log: Callable[[str], None] | None,
        request: dict[str, Any],
    ) -> Any:
        if "params" not in request or on_log is None:
            return self._json(method, path, **request)
        headers = {"Accept": "application/x-ndjson"}
        with self._http.stream(method, path, headers=headers, **request) as answer:
            if "ndjson" not in answer.headers.get("Content-Type", ""):
                answer.read()
                return self._check(answer).json()
            for line in answer.iter_lines():
                said = json.loads(line)
                if "log" in said:
                    on_log(said["log"])
                elif "function" in said:
                    return said["function"]
                else:
                    raise from_answer(said.get("status", 0), line.encode())
        raise from_answer(200, b"")

    def _json(self, method: str, path: str, *, wait: float = 0.0, **request: Any) -> Any:
        if wait > 0:
            request["params"] = {"wait": f"{wait:.3f}"}
        answer = self._check(
            self._send(method, path, timeout=self._timeout_s + wait, **request)
        )
        try:
            return answer.json()
        except ValueError:
            raise from_answer(answer.status_code, answer.content) from None

    @staticmethod
    def _check(answer: httpx.Response) -> httpx.Response:
        if not answer.is_success:
            raise from_answer(answer.status_code, answer.content)
        return answer

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise NotReachable(
                f"no answer from {self.url}: {str(error) or type(error).__name__}",
                hint="Is it running (skep up)? Is the address right (--url, SKEP_URL)?",
            ) from error


def _end_of(wait_s: float | None) -> float | None:
    return None if wait_s is None else time.monotonic() + wait_s


def _step_s(end: float | None) -> float:
    """Return how long the next request may wait, in seconds."""
    if end is None:
        return WAIT_STEP_S
    return min(WAIT_STEP_S, max(0.0, end - time.monotonic()))


def _revision(revision: int | None) -> dict[str, int]:
    return {} if revision is None else {"revision": revision}


def _text(value: Any) -> str:
    """Spell a setting as a form field: texts as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
