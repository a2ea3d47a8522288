"""Which processes are ended, and which must not be, while they fork."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from miniworker import kernel, processes
from tests.conftest import eventually


def fork(work: Callable[[], None]) -> int:
    """Run ``work`` in a child; its exit status says whether it raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def test_what_a_spared_process_forks_meanwhile_is_spared() -> None:
    def keep_forking() -> None:
        for _ in range(300):
            # They live a little, so that a look that is taken in two can miss one.
            assert os.waitpid(fork(lambda: time.sleep(0.003)), 0)[1] == 0

    def work() -> None:
        kernel.adopt_orphans()
        spared = fork(keep_forking)
        ended = (0, 0)
        while ended == (0, 0):
            processes.end_orphans(spared={spared})
            ended = os.waitpid(spared, os.WNOHANG)
        assert ended == (spared, 0)

    assert os.waitpid(fork(work), 0)[1] == 0


def test_an_orphan_is_ended_though_it_left_its_session() -> None:
    read, write = os.pipe()

    def leave_a_child() -> None:
        def stay() -> None:
            os.setsid()
            os.write(write, os.getpid().to_bytes(4, "little"))
            signal.pause()

        fork(stay)

    def work() -> None:
        kernel.adopt_orphans()
        os.waitpid(fork(leave_a_child), 0)
        orphan = int.from_bytes(os.read(read, 4), "little")
        eventually(lambda: orphan in processes.descendants(os.getpid()))
        processes.end_orphans()
        assert not processes.descendants(os.getpid())

    assert os.waitpid(fork(work), 0)[1] == 0
    os.close(read)
    os.close(write)
