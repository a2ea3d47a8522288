"""A server that does what it is told, for tests of the contract ``http``: runs in an image."""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MEETING = threading.Barrier(3)
HELD: list[bytearray] = []


class Handler(BaseHTTPRequestHandler):
    """Reads params, and does what they say."""

    def do_POST(self) -> None:
        """Answer a call."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said = json.loads(body)
        word = said.get("do", "echo") if isinstance(said, dict) else "echo"
        getattr(self, f"do_{word}")(said)

    def answer(self, body: bytes, kind: str = "text/plain", status: int = 200) -> None:
        """Send it."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_echo(self, said: Any) -> None:
        """Say what came."""
        seen = {"path": self.path, "headers": dict(self.headers), "params": said}
        self.answer(json.dumps(seen).encode(), "application/json; charset=utf-8")

    def do_text(self, said: Any) -> None:
        """Say it, as whatever kind, with whatever status."""
        body = said["text"].encode(said.get("encoding", "utf-8"))
        self.answer(body, said.get("kind", "text/plain"), said.get("status", 200))

    def do_large(self, said: Any) -> None:
        """Say much."""
        self.answer(b"x" * said["size"])

    def do_print(self, said: Any) -> None:
        """Print, and answer at once."""
        print(said["out"], flush=True)
        print(said["err"], file=sys.stderr, flush=True)
        self.answer(b"printed\n")

    def do_meet(self, _: Any) -> None:
        """Answer when three ask at the same time."""
        self.answer(str(MEETING.wait(20)).encode())

    def do_sleep(self, said: Any) -> None:
        """Take long, and say when it begins."""
        print("begun", flush=True)
        time.sleep(said["s"])
        self.answer(b"slept")

    def do_see(self, _: Any) -> None:
        """Say what there is around."""
        env = {k: v for k, v in os.environ.items() if k.startswith(("SKEP", "PORT", "OWN"))}
        seen = {
            "net": [each.name for each in Path("/sys/class/net").iterdir()],
            "env": env,
            "cwd": str(Path.cwd()),
            "user": os.getuid(),
            "writable": os.access(".", os.W_OK),
        }
        self.answer(json.dumps(seen).encode(), "application/vnd.seen+json")

    def do_exit(self, _: Any) -> None:
        """Die."""
        os._exit(3)

    def do_close(self, _: Any) -> None:
        """Say nothing."""
        self.close_connection = True

    def do_garbage(self, _: Any) -> None:
        """Say what is no HTTP."""
        self.wfile.write(b"hello\r\n\r\n")
        self.close_connection = True

    def do_fill(self, _: Any) -> None:
        """Take memory."""
        HELD.append(bytearray(300 << 20))
        self.answer(b"filled")

    def do_fork(self, _: Any) -> None:
        """Have a child take memory; say nothing."""
        if not (child := os.fork()):
            HELD.append(bytearray(300 << 20))
            os._exit(0)
        os.waitpid(child, 0)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Print nothing by itself."""


print("serving", flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
