"""The worker's side of the zygote: its end is waited for."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.conftest import children
from worker.sandbox import SandboxKind
from worker.zygote import DEAD_S, Zygote


async def test_a_zygote_that_is_told_to_leave_has_time_to_remove_containers() -> None:
    before = children()
    deaths: list[str] = []
    kind = SandboxKind(driver="fake", isolation="")
    zygote = Zygote(lambda _: None, lambda: None, lambda: deaths.append("died"), [], kind)
    zygote.start()
    process = zygote._process
    assert process is not None
    # It stands for one whose engine is slow: longer than one that has died is waited for.
    os.kill(process.pid, signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    loop.call_later(DEAD_S + 0.5, os.kill, process.pid, signal.SIGCONT)
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if process.returncode is None:
            loop.call_later(0.1, turn)

    turn()
    await zygote.close()
    # It ended by itself, and the loop went on: heartbeats are said meanwhile.
    assert process.returncode == 0
    assert turns > 5
    assert (deaths, children() - before) == ([], set())
