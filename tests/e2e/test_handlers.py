"""Handlers from outside, by HTTP: registered, called, failing, kept and forked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import up
from tests.packing import tar_gz

MODULE = """
import asyncio, os, sys, time
count = 0
def main(*args, **kwargs):
    return {"args": list(args), "kwargs": kwargs}
def counts():
    global count
    count += 1
    return count
async def later(x):
    await asyncio.sleep(0.01)
    return x
def fails(text):
    print("before")
    raise ValueError(text)
def slow():
    print("so far")
    time.sleep(600)
def grows():
    return len(bytearray(600 << 20))
"""


class Api:
    """What a user with an HTTP client does."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=50)

    def close(self) -> None:
        self._http.close()

    def runtime(self, name: str, **more: str) -> None:
        body = {"name": name, "image": name, "path": "/ws", "dependencies": "", **more}
        self._http.post("/registerRuntime", json=body).raise_for_status()

    def function(
        self, name: str, runtime: str, files: dict[str, str], **settings: str
    ) -> dict[str, Any]:
        answer = self._http.post(
            f"/registerFunction/{runtime}/{name}",
            files={"module": ("package.tar.gz", tar_gz(files))},
            data=settings,
        )
        answer.raise_for_status()
        function: dict[str, Any] = answer.json()
        return function

    def call(self, name: str, params: Any = None) -> dict[str, Any]:
        body = {"funcName": name} if params is None else {"funcName": name, "params": params}
        answer = self._http.post("/invokeFunction", params={"wait": "40"}, json=body)
        answer.raise_for_status()
        record: dict[str, Any] = answer.json()
        return record

    def logs(self, call: dict[str, Any]) -> dict[str, Any]:
        headers = {"Accept": "application/json"}
        logs: dict[str, Any] = self._http.get(
            f"/call/{call['callNum']}/logs", headers=headers
        ).json()
        return logs


@contextmanager
def running(data: Path) -> Iterator[Api]:
    """Return the api of a hive with two runtimes."""
    with up(data, "--slots", "3") as hive:
        api = Api(hive.url)
        try:
            # No agent is named: the first word of run says python.
            api.runtime("py", run="python3 test.py")
            api.runtime("other", run="./main")
            yield api
        finally:
            api.close()


@pytest.mark.parametrize("isolation", ["none", "fork"])
def test_handlers_in_one_process_and_in_forks(tmp_path: Path, isolation: str) -> None:
    with running(tmp_path / "data") as api:
        params_are_arguments(api, isolation)
        async_functions(api, isolation)
        an_exception_is_in_the_reason_and_its_traceback_in_the_logs(api, isolation)
        a_limit_that_is_met_is_named_and_the_next_call_runs(api, isolation)
        many_at_once_each_have_their_own_answer(api, isolation)


def test_entries_commands_and_what_they_cannot_do(tmp_path: Path) -> None:
    with running(tmp_path / "data") as api:
        state_is_kept_in_one_process_only(api)
        what_cannot_be_loaded_ends_the_call_with_its_traceback(api)
        an_entry_of_a_runtime_without_handlers_says_so(api)
        a_functions_own_run_comes_before_its_runtimes(api)


def register(api: Api, name: str, isolation: str, **settings: str) -> str:
    full = f"{name}-{isolation}"
    files = {"hello.py": MODULE}
    entry = f"hello.{name}"
    function = api.function(full, "py", files, entry=entry, isolation=isolation, **settings)
    assert (function["entry"], function["isolation"]) == (entry, isolation)
    return full


def params_are_arguments(api: Api, isolation: str) -> None:
    name = register(api, "main", isolation)
    for params, args, kwargs in (
        (None, [], {}),
        ({"a": 1, "b": [None]}, [], {"a": 1, "b": [None]}),
        ([1, "two", {"three": 3}], [1, "two", {"three": 3}], {}),
        ("text", ["text"], {}),
        (7, [7], {}),
    ):
        call = api.call(name, params)
        assert (call["status"], call["resultType"]) == ("DONE", "json"), call
        assert json.loads(call["result"]) == {"args": args, "kwargs": kwargs}


def state_is_kept_in_one_process_only(api: Api) -> None:
    kept, forked = register(api, "counts", "none"), register(api, "counts", "fork")
    assert [api.call(kept)["result"] for _ in range(3)] == ["1", "2", "3"]
    assert [api.call(forked)["result"] for _ in range(3)] == ["1", "1", "1"]


def async_functions(api: Api, isolation: str) -> None:
    assert api.call(register(api, "later", isolation), ["x"])["result"] == '"x"'


def an_exception_is_in_the_reason_and_its_traceback_in_the_logs(
    api: Api, isolation: str
) -> None:
    call = api.call(register(api, "fails", isolation), ["no dice"])
    assert (call["status"], call["result"]) == ("FAILED", "")
    assert call["reason"] == {"code": "raised", "message": "ValueError: no dice"}
    logs = api.logs(call)
    assert logs["stdout"] == "before\n"
    assert "Traceback (most recent call last)" in logs["stderr"]
    assert 'hello.py", line' in logs["stderr"]


def a_limit_that_is_met_is_named_and_the_next_call_runs(api: Api, isolation: str) -> None:
    slow = register(api, "slow", isolation, timeout="1")
    for _ in range(2):
        call = api.call(slow)
        assert (call["status"], call["reason"]["code"]) == ("TIMEOUT", "timeout")
        assert api.logs(call)["stdout"] == "so far\n"
    grows = register(api, "grows", isolation, memory="128")
    for _ in range(2):
        call = api.call(grows)
        assert (call["status"], call["reason"]["code"]) == ("OOM", "oom")
        assert "128 MiB" in call["reason"]["message"]


def what_cannot_be_loaded_ends_the_call_with_its_traceback(api: Api) -> None:
    api.function("broken", "py", {"hello.py": "import no_such_module"}, entry="hello.main")
    call = api.call("broken")
    assert (call["status"], call["reason"]["code"]) == ("FAILED", "entry_not_found")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in call["reason"]["message"]
    assert "Traceback (most recent call last)" in api.logs(call)["stderr"]


def an_entry_of_a_runtime_without_handlers_says_so(api: Api) -> None:
    api.function("lost", "other", {"hello.py": MODULE}, entry="hello.main")
    call = api.call("lost")
    assert (call["status"], call["reason"]["code"]) == ("FAILED", "entry_not_found")
    assert "'none'" in call["reason"]["message"]


def a_functions_own_run_comes_before_its_runtimes(api: Api) -> None:
    files = {"hello": "#!/bin/sh\necho hello $SKEP_FUNCTION"}
    api.function("program", "py", files, run="./hello | tr a-z A-Z")
    assert api.call("program")["result"] == "HELLO PROGRAM"


def many_at_once_each_have_their_own_answer(api: Api, isolation: str) -> None:
    name = register(api, "main", isolation)
    with ThreadPoolExecutor(12) as pool:
        calls = list(pool.map(lambda n: api.call(name, [n]), range(120)))
    assert [json.loads(call["result"])["args"] for call in calls] == [[n] for n in range(120)]
