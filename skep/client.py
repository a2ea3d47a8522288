"""The synchronous HTTP client: one method a verb."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import quote, urlsplit

import httpx

from skep.errors import NotReachable, from_answer
from skep.records import TERMINAL, Call, Function, Logs, Runtime, Worker

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
        self, runtime: str, function: str, package: Path | str, **settings: Any
    ) -> Function:
        """Upload an archive as a function of a runtime; settings are spelled as in HTTP."""
        fields = {key: _text(value) for key, value in settings.items()}
        path = f"/registerFunction/{quote(runtime, safe='')}/{quote(function, safe='')}"
        with Path(package).open("rb") as file:
            files = {"module": (Path(package).name, file, "application/octet-stream")}
            answer = self._json("POST", path, data=fields, files=files)
        return cast("Function", answer)

    def submit(self, function: str, params: Any = NO_PARAMS, **options: Any) -> Call:
        """Accept a call and return its record at once; it runs, whatever happens to us."""
        return self._invoke(function, params, 0.0, options)

    def invoke(
        self,
        function: str,
        params: Any = NO_PARAMS,
        *,
        wait: float | None = None,
        **options: Any,
    ) -> Call:
        """Call a function and return its record when it has ended, however it ended.

        After ``wait`` seconds (default: no limit) the record is returned as it stands then.
        """
        end = _end_of(wait)
        call = self._invoke(function, params, _step_s(end), options)
        return self.wait(call, None if end is None else end - time.monotonic())

    def wait(self, call: Call, wait: float | None = None) -> Call:
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

    def functions(self) -> list[str]:
        """Return the names of the functions."""
        return cast("list[str]", self._json("GET", "/functions"))

    def workers(self) -> list[Worker]:
        """Return the workers that the api knows."""
        return cast("list[Worker]", self._json("GET", "/workers"))

    def _invoke(
        self, function: str, params: Any, wait_s: float, options: Mapping[str, Any]
    ) -> Call:
        body = {"funcName": function, "params": params, **options}
        return cast("Call", self._json("POST", "/invokeFunction", wait=wait_s, json=body))

    def _json(self, method: str, path: str, *, wait: float = 0.0, **request: Any) -> Any:
        if wait > 0:
            request["params"] = {"wait": f"{wait:.3f}"}
        answer = self._send(method, path, timeout=self._timeout_s + wait, **request)
        if answer.is_success:
            try:
                return answer.json()
            except ValueError:
                raise from_answer(answer.status_code, answer.content) from None
        raise from_answer(answer.status_code, answer.content)

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


def _text(value: Any) -> str:
    """Spell a setting as a form field: texts as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
