"""A registry of images on loopback, with credentials, for tests of pushing and pulling."""

from __future__ import annotations

import base64
import functools
import http.client
import json
import secrets
import select
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import engine
from tests.conftest import eventually

IMAGE = f"{engine.IMAGES}/registry"
USER, PASSWORD = "ada", "secret"
#: The line of ``htpasswd -B`` for these two.
HTPASSWD = f"{USER}:$2b$05$FTLJrwbu6joShP6h2x0.jOR7sLyT6ipPwT2zDUuPQveEooc0TbmtK\n"


class Registry:
    """One registry in a container, and the credentials that it asks for."""

    def __init__(self, folder: Path) -> None:
        self._container = ""
        self.host = ""
        self._folder = folder

    def start(self, port: str = "0") -> None:
        """Start it, on a free port or on the one that it had."""
        users = self._folder / "htpasswd"
        users.write_text(HTPASSWD)
        users.chmod(0o644)
        auth = ["--env", "REGISTRY_AUTH=htpasswd", "--env", "REGISTRY_AUTH_HTPASSWD_REALM=test"]
        auth += ["--env", "REGISTRY_AUTH_HTPASSWD_PATH=/etc/htpasswd"]
        published = ["--publish", f"127.0.0.1:{port}:5000"]
        self._container = engine.docker("create", *published, *auth, image())
        engine.docker("cp", str(users), f"{self._container}:/etc/htpasswd")
        engine.docker("start", self._container)
        self.host = engine.docker("port", self._container, "5000").splitlines()[0]

    def stop(self) -> None:
        """Be away."""
        engine.docker("rm", "--force", "--volumes", self._container)

    def credentials(self, password: str = PASSWORD, *more: str) -> Path:
        """Return a folder with a config.json as ``docker login`` writes it.

        ``more`` are other addresses that it has.
        """
        folder = self._folder / secrets.token_hex(4)
        folder.mkdir()
        said = base64.b64encode(f"{USER}:{password}".encode()).decode()
        config = {"auths": {host: {"auth": said} for host in (self.host, *more)}}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    def name(self, what: str) -> str:
        """Return the name of an image in it that no other test has.

        All are in one repository: it is sent no layer twice.
        """
        return f"{self.host}/skep:{what}-{secrets.token_hex(4)}"

    def push(self, image: str, name: str) -> None:
        """Put an image there, and leave its new name nowhere else."""
        engine.docker("tag", image, name)
        config = ["--config", str(self.credentials())]
        try:
            engine.docker(*config, "push", "--quiet", name, limit_s=120)
        finally:
            engine.docker("image", "rm", name)


def _answers(host: str) -> bool:
    connection = http.client.HTTPConnection(host, timeout=2)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 401
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@functools.cache
def image() -> str:
    """Return the image of the registry, made if it is not there."""
    given = ["--build-arg", f"BASE={engine.base_image()}", "--tag", IMAGE]
    place = str(engine.ROOT / "deploy" / "registry")
    engine.docker("build", "--network", "host", *given, place, limit_s=engine.BUILD_S)
    return IMAGE


@contextmanager
def slowly(host: str, bytes_per_s: int) -> Iterator[str]:
    """Give an address by which a registry sends no more than so much on each connection."""
    there, _, port = host.rpartition(":")

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((there, int(port))) as far:
                near: socket.socket = self.request
                while True:
                    for one in select.select([near, far], [], [])[0]:
                        data = one.recv(64 << 10)
                        if not data:
                            return
                        if one is far:
                            time.sleep(len(data) / bytes_per_s)
                        (near if one is far else far).sendall(data)

        def finish(self) -> None:
            self.request.close()

    class Server(socketserver.ThreadingTCPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing of connections that break."""

    with Server(("127.0.0.1", 0), Relay) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Run one, and remove it with what is in it."""
    found = Registry(folder)
    found.start()
    try:
        eventually(lambda: _answers(found.host), 30, "the registry answers")
        yield found
    finally:
        found.stop()
