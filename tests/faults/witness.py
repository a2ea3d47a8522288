"""Counts what ran, outside skep: functions tell it before they do anything."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from contextlib import suppress
from typing import Final

#: A function that tells the witness which call it runs, and begins once that is counted.
MODULE: Final = """
import os, socket, time
def witness(places):
    for host, port in places:
        try:
            return socket.create_connection((host, port), 3)
        except OSError as error:
            failed = error
    raise failed
def main(n, s, places):
    said = "ran %s %s\\n" % (os.environ["SKEP_CALL"], os.environ["SKEP_FUNCTION"])
    with witness(places) as heard:
        heard.sendall(said.encode())
        if heard.recv(1) != b"!":
            raise SystemExit("not counted")
    time.sleep(s)
    return {"n": n, "revision": int(os.environ["SKEP_REVISION"])}
"""
_RAN: Final = re.compile(rb"ran (\d+) (\w+)\n")


class Witness:
    """Counts executions by callNum; each waits until it is counted."""

    def __init__(self, *listening: socket.socket) -> None:
        """Listen on these, or else on a port of this host."""
        self.executions: Counter[int] = Counter()
        #: Of which function a call was, as it said itself.
        self.functions: dict[int, str] = {}
        self._sockets = listening or (socket.create_server(("127.0.0.1", 0), backlog=256),)
        #: Where functions find it: the first place that answers.
        self.places = [one.getsockname()[:2] for one in self._sockets]
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._listen, args=(one,), name="witness")
            for one in self._sockets
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self, listening: socket.socket) -> None:
        # accept() must end with this: whoever is at the other end may be out of reach.
        listening.settimeout(0.2)
        while not self._stop.is_set():
            with suppress(TimeoutError):
                said, _ = listening.accept()
                # Who dies in the middle of it has not begun.
                with said, suppress(OSError):
                    self._hear(said)

    def _hear(self, said: socket.socket) -> None:
        said.settimeout(2)
        with said.makefile("rb") as lines:
            line = lines.readline()
        match = _RAN.fullmatch(line)
        # Others on this machine knock at any port.
        if match is not None:
            number, function = match[1], match[2].decode()
            with self._lock:
                self.executions[int(number)] += 1
                self.functions[int(number)] = function
            said.sendall(b"!")

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()
