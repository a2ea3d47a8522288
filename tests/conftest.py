"""What all tests share: async tests on the real loop, and proof that nothing outlives one."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import inspect
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import NEEDED

# Orphans of a killed process become ours, so that ``children`` finds them (prctl(2)).
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER

# A shell ignores Ctrl-C for what it runs in the background, and programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: No async test may take longer, unless its ``timeout`` mark gives it more; each waits for
#: conditions, never for time.
ASYNC_LIMIT_S = 50


def pytest_collection_finish() -> None:
    """What was imported is no garbage: collecting after each test need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run ``async def`` tests on a loop of their own, in debug mode."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    test: Callable[..., Awaitable[None]] = pyfuncitem.obj

    mark = pyfuncitem.get_closest_marker("timeout")
    # Sooner than the mark itself, which would end it without a word of where it stands.
    limit_s = ASYNC_LIMIT_S if mark is None else max(ASYNC_LIMIT_S, mark.args[0] - 10)

    async def limited() -> None:
        await asyncio.wait_for(test(**arguments), limit_s)

    asyncio.run(limited(), debug=True)
    return True


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in one line how many tests there was no engine for, and why."""
    skipped = [str(report.longrepr) for report in terminalreporter.getreports("skipped")]
    reasons = [text[text.index(NEEDED) :].rstrip("')") for text in skipped if NEEDED in text]
    if reasons:
        line = f"{len(reasons)} tests of containers did not run: {reasons[0]}"
        terminalreporter.write_line(line, yellow=True)


def eventually(condition: Callable[[], Any], limit_s: float = 20.0, what: str = "") -> Any:
    """Return the first true value of ``condition``; fail after ``limit_s``."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    pytest.fail(f"not within {limit_s} s: {what or inspect.getsource(condition).strip()}")


async def soon(condition: Callable[[], Any], limit_s: float = 20.0, what: str = "") -> Any:
    """As ``eventually``, while the loop goes on; the condition may be one to await."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        value = condition()
        if value := await value if inspect.isawaitable(value) else value:
            return value
        await asyncio.sleep(0.005)
    pytest.fail(f"not within {limit_s} s: {what or inspect.getsource(condition).strip()}")


def children(*ancestors: int) -> set[int]:
    """Return the pids of all living descendants of this process, or of others."""
    parents: dict[int, list[int]] = {}
    # Before and after each test, with all processes of the machine: plain reads are the
    # cheapest.
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb", buffering=0) as file:  # noqa: PTH123
                    stat = file.read()
            except OSError:
                continue
            state, parent = stat.rpartition(b")")[2].split(None, 2)[:2]
            if state != b"Z":
                parents.setdefault(int(parent), []).append(int(name))
    found: set[int] = set()
    todo = list(ancestors) or [os.getpid()]
    while todo:
        new = parents.get(todo.pop(), [])
        found.update(new)
        todo.extend(new)
    return found


def _shown(pid: int) -> str:
    """Return what a process is, for whoever must find out whose it was."""
    with contextlib.suppress(OSError):
        place = Path(f"/proc/{pid}")
        words = (place / "cmdline").read_text(errors="replace").split("\0")
        state = (place / "stat").read_text().rpartition(")")[2].split()[:2]
        return " ".join([*state, *words, (place / "cgroup").read_text().splitlines()[0]])
    return "gone"


def descriptors() -> dict[str, str]:
    """Return the open descriptors of this process and what they are."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_outlives() -> Iterator[None]:
    """Fail a test that leaves a thread, a process, a socket or an open file behind."""
    threads = set(threading.enumerate())
    processes = children()
    files = descriptors()
    yield
    gc.collect()

    def left() -> dict[str, Any]:
        return {
            "threads": set(threading.enumerate()) - threads,
            "processes": {pid: _shown(pid) for pid in children() - processes},
            "files": {k: v for k, v in descriptors().items() if files.get(k) != v},
        }

    end = time.monotonic() + 5
    while any(left().values()) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(left().values()), left()
