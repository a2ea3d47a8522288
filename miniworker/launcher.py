"""Inside bwrap as root: become the sandbox's user for good, then the command.

``python3 -I launcher.py UID COMMAND ...``. One file, the standard library only: it is copied
into the tools folder and runs with the sandbox's interpreter, Python 3.8 or later.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PDEATHSIG = 1
NO_NEW_PRIVS = 38


def main() -> None:
    """Drop what root may, and execute."""
    uid = int(sys.argv[1])
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None)
    # The change of uid has cleared what bwrap had set.
    libc.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - confined by now


if __name__ == "__main__":
    main()
