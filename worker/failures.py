"""Why there is no bundle, and whose fault that is."""

from __future__ import annotations

import errno
from typing import Final

from wire.errors import SkepError
from wire.models import Fault, Reason
from worker.fetcher import NotFetched

NO_SPACE: Final = "no_space"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class NoBundle(Exception):
    """There will be no bundle."""

    def __init__(self, fault: Fault, reason: Reason, log: str = "") -> None:
        super().__init__(reason.message)
        self.fault = fault
        self.reason = reason
        self.log = log


def explain(error: BaseException) -> BaseException:
    """Return the NoBundle that an error amounts to; what is no failure of making stays."""
    if isinstance(error, NotFetched):
        return NoBundle(Fault.NODE, error.reason)
    if isinstance(error, SkepError):
        reason = Reason(code="install_failed", message=f"{error.message} ({error.hint})")
        return NoBundle(Fault.FUNCTION, reason)
    if isinstance(error, OSError):
        code = NO_SPACE if error.errno in _FULL else "no_sandbox"
        return NoBundle(Fault.NODE, Reason(code=code, message=f"no bundle: {error}"))
    return error


def unforeseen(error: Exception) -> NoBundle:
    """Return the NoBundle of what should not have happened: a node's fault."""
    return NoBundle(Fault.NODE, Reason(code="no_sandbox", message=f"no bundle: {error!r}"))
