"""Sockets in the network of a container that has no network: nobody else reaches in or out.

A socket belongs to the network namespace in which it was made, wherever it is used. So a
thread enters that of the container, makes one, and ends. That takes a worker on the engine's
own host, and the right to do so: CAP_SYS_ADMIN, and CAP_SYS_PTRACE as the container is another
user's.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Final

from miniworker.sandbox import NoSandbox, no_reach

LOOPBACK: Final = "127.0.0.1"
CONNECT_S: Final = 1.0
_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_RIGHT: Final = (
    "run the worker as root on the engine's host, or with CAP_SYS_ADMIN and CAP_SYS_PTRACE "
    "(deploy/systemd/worker-servers.conf)"
)


class Reach:
    """The way into the network of one running container."""

    def __init__(self, pid: int, container: str) -> None:
        """Hold the network of the container whose first process is ``pid``.

        Raises:
            NoSandbox: it is none of this host's, or this process may not.
        """
        try:
            self._fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as error:
            raise _forbidden(error) from error
        except OSError as error:
            raise _elsewhere() from error
        try:
            # Looked at last: elsewhere the number is another process's, and may become one.
            self._check(pid, container)
            self.new_socket().close()
        except NoSandbox:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Reach by {self._fd}>"

    def new_socket(self) -> socket.socket:
        """Return a TCP socket in there.

        Raises:
            NoSandbox: this process may not.
        """
        made: list[socket.socket | OSError] = []
        thread = threading.Thread(target=lambda: made.append(self._made_inside()))
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise _forbidden(made[0]) from made[0]
        return made[0]

    def close(self) -> None:
        """Let the network go."""
        os.close(self._fd)

    def _made_inside(self) -> socket.socket | OSError:
        if _LIBC.setns(self._fd, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            return OSError(number, os.strerror(number))
        try:
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            return error

    @staticmethod
    def _check(pid: int, container: str) -> None:
        try:
            said = Path(f"/proc/{pid}/cgroup").read_text()
        except OSError as error:
            raise _elsewhere() from error
        if container not in said:
            raise _elsewhere()


def listens(connection: socket.socket, port: int) -> bool:
    """Return whether somebody listens on a port in the network of this new socket."""
    connection.settimeout(CONNECT_S)
    if connection.connect_ex((LOOPBACK, port)) != 0:
        return False
    if connection.getsockname() != (LOOPBACK, port):
        return True
    # The kernel gave the socket this very port, and connected it to itself. It has to be
    # reset, or the port would be taken for a minute when the server wants it.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def _forbidden(error: OSError) -> NoSandbox:
    return no_reach(
        f"this worker may not enter a container's network: {error.strerror}", _RIGHT
    )


def _elsewhere() -> NoSandbox:
    return no_reach("this worker does not see the processes of the engine's containers")
