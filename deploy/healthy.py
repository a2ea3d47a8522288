#!/usr/bin/python3 -IS
"""Say by the exit status whether something on this machine answers: skep-healthy PORT|tcp://HOST:PORT.

A port alone is asked for /healthz. Nothing is imported but sockets: it runs every few seconds.
"""

import socket
import sys

WAIT_S = 4.0


def main() -> int:
    """Ask, and say what is wrong."""
    where = sys.argv[1]
    host, _, port = where.removeprefix("tcp://").rpartition(":")
    try:
        with socket.create_connection((host or "127.0.0.1", int(port)), WAIT_S) as connection:
            if where.startswith("tcp://"):
                return 0
            connection.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            status = connection.recv(64).split(b" ")[1:2]
    except OSError as error:
        print(f"port {port}: {error.strerror or error}")
        return 1
    return 0 if status == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main())
