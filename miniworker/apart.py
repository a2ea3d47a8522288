"""Work that is done in a fork: the memory that it copies and fills is gone when it is done."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import msgspec

from miniworker import kernel
from miniworker.sandbox import NoSandbox
from wire.models import Fault

log = logging.getLogger(__name__)


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A ``NoSandbox`` on its way from one process to another."""

    message: str
    hint: str
    fault: Fault
    code: str
    log: str

    @classmethod
    def of(cls, error: NoSandbox) -> Refusal:
        """Return what says the same."""
        return cls(
            message=error.message,
            hint=error.hint,
            fault=error.fault,
            code=error.reason.code,
            log=error.log,
        )

    def error(self) -> NoSandbox:
        """Return what says the same."""
        given = {"hint": self.hint, "code": self.code, "log": self.log}
        return NoSandbox(self.message, fault=self.fault, **given)


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a fork that talked to the engine knows of the container since."""

    id: str
    may_exist: bool
    image_id: str
    env: dict[str, str]
    refusal: Refusal | None


def apart(work: Callable[[], bytes]) -> bytes | None:
    """Return what ``work`` returns in a fork of this process; None if that failed or died."""
    parent = os.getpid()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_fork(parent, write, work)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        said = answer.read()
    _, status = os.waitpid(pid, 0)
    return said if status == 0 else None


def _be_fork(parent: int, write: int, work: Callable[[], bytes]) -> None:
    status = 1
    try:
        # What its miniworker began, nobody goes on with.
        kernel.die_with_parent()
        if os.getppid() == parent:
            said = work()
            with os.fdopen(write, "wb") as answer:
                answer.write(said)
            status = 0
    except Exception:
        log.exception("what was done apart failed")
    finally:
        os._exit(status)
