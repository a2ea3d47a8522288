"""A package index of one's own on loopback, for tests of installing: no other is needed."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import ssl
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


def wheel(name: str, version: str, files: dict[str, str]) -> bytes:
    """Return a wheel that holds these files; ``bin/NAME`` becomes a script."""
    info = f"{name}-{version}.dist-info"
    scripts = [path[4:] for path in files if path.startswith("bin/")]
    content = {path: text for path, text in files.items() if not path.startswith("bin/")}
    content |= {f"{name}-{version}.data/scripts/{one}": files[f"bin/{one}"] for one in scripts}
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in content)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in content.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
            archive.writestr(entry, text)
    return buffer.getvalue()


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return the files of a certificate for 127.0.0.1, its own authority, and of its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=index"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    subprocess.run([*command, "-out", str(cert)], check=True, capture_output=True)
    return cert, key


class Index:
    """Wheels by project, as PEP 503 has it; keeps what was asked for."""

    def __init__(self, url: str, authorization: str) -> None:
        self.url = url
        self.asked: list[str] = []
        self._authorization = authorization
        self._wheels: dict[str, bytes] = {}

    def add(self, name: str, version: str, files: dict[str, str]) -> None:
        """Publish a wheel."""
        self._wheels[f"{name}-{version}-py3-none-any.whl"] = wheel(name, version, files)

    def downloads(self) -> list[str]:
        """Return the wheels that were fetched, in order."""
        return [path.rpartition("/")[2] for path in self.asked if path.endswith(".whl")]

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        """Return status and body."""
        self.asked.append(path)
        if self._authorization and authorization != self._authorization:
            return 401, b"who are you?"
        last = path.rstrip("/").rpartition("/")[2]
        if last in self._wheels:
            return 200, self._wheels[last]
        found = {n: w for n, w in self._wheels.items() if n.partition("-")[0] == last}
        links = [
            f'<a href="/files/{name}#sha256={hashlib.sha256(data).hexdigest()}">{name}</a>'
            for name, data in found.items()
        ]
        return (200 if links else 404), "\n".join(links).encode()


@contextmanager
def index(
    cert: tuple[Path, Path] | None = None, user: str = "", password: str = ""
) -> Iterator[Index]:
    """Serve an index within the block; over https with a certificate, to one user if said."""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = made.answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", "Basic")
            kind = "text/html" if body.startswith(b"<a") else "application/octet-stream"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that trusts no one hangs up: that is what is tested."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if cert is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*cert)
            # The handshake belongs to the connection's thread, not to the one that accepts.
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "https" if cert else "http"
        who = f"{user}:{password}@" if user else ""
        url = f"{scheme}://{who}127.0.0.1:{server.server_address[1]}/simple"
        made = Index(url, f"Basic {token}" if user else "")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
