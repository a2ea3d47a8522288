"""Sockets in other network namespaces."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from typing import Final

_NEWNET: Final = 0x40000000  # CLONE_NEWNET


def listening(namespace: str, host: str) -> socket.socket:
    """Return a socket that listens within a namespace; this process stays outside."""
    made: list[socket.socket] = []

    def make() -> None:
        where = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        entered = ctypes.CDLL(None, use_errno=True).setns(where, _NEWNET)
        os.close(where)
        if entered == 0:
            made.append(socket.create_server((host, 0), backlog=256))

    # Only the thread that enters is there, and it ends.
    thread = threading.Thread(target=make, name="listening elsewhere")
    thread.start()
    thread.join()
    assert made, f"cannot listen on {host} in {namespace}"
    return made[0]
