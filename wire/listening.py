"""Taking a port for HTTP, the same for everyone who serves any."""

from __future__ import annotations

import socket

from wire.errors import BadRequest


def take_port(host: str, port: int, *, option: str) -> list[socket.socket]:
    """Listen at every address of a host, on a free port if it is 0. ``option`` sets the port.

    Raises:
        BadRequest: the port cannot be had.
    """
    sockets: list[socket.socket] = []
    flags, kind = socket.AI_PASSIVE, socket.SOCK_STREAM
    try:
        for family, *_, address in socket.getaddrinfo(host, port, type=kind, flags=flags):
            sockets.append(socket.create_server((str(address[0]), port), family=family))
            sockets[-1].setblocking(False)
            # All of them are one port, also where any was asked for.
            port = sockets[-1].getsockname()[1]
    except OSError as error:
        for one in sockets:
            one.close()
        raise BadRequest(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint=f"another process may use that port: choose another {option}, or 0 for any",
        ) from error
    return sockets


def url_of(listening: socket.socket) -> str:
    """Return where a socket is found."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
