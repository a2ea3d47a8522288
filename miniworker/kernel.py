"""The Linux calls that Python has no name for: prctl, unshare, mount. No decisions here."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
from typing import Final

# From <linux/prctl.h>.
_PDEATHSIG: Final = 1
_CHILD_SUBREAPER: Final = 36
_NO_NEW_PRIVS: Final = 38

# From <linux/sched.h>.
NEW_MOUNTS: Final = 0x00020000
NEW_UTS: Final = 0x04000000
NEW_IPC: Final = 0x08000000
NEW_PIDS: Final = 0x20000000
NEW_NET: Final = 0x40000000

# From <linux/mount.h>.
READ_ONLY: Final = 1
NO_SUID: Final = 2
NO_DEV: Final = 4
NO_EXEC: Final = 8
REMOUNT: Final = 32
BIND: Final = 4096
MOVE: Final = 8192
RECURSIVE: Final = 16384
PRIVATE: Final = 1 << 18

# From <linux/sockios.h> and <linux/if.h>.
_SET_FLAGS: Final = 0x8914
_UP_AND_RUNNING: Final = 0x1 | 0x40

_libc: Final = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Be killed when the parent thread ends; the caller checks that it has not already."""
    _check(_libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _check(_libc.prctl(_CHILD_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER")


def no_new_privileges() -> None:
    """Make setuid programs powerless, for this process and all that come of it."""
    _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def unshare(flags: int) -> None:
    """Leave namespaces; raise ``OSError`` where that is not permitted."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount, as the system call does; raise ``OSError`` naming the target."""
    words = (source.encode(), target.encode(), kind.encode() or None)
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None), target)


def loopback_up() -> None:
    """Bring ``lo`` up in a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sH14x", b"lo", _UP_AND_RUNNING)
        fcntl.ioctl(handle, _SET_FLAGS, request)


def _check(answer: int, what: str) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
