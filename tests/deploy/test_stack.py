"""docker-stack.yml on a swarm of one node, on an engine of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import engine
from tests.conftest import eventually
from tests.deploy import platform_image
from tests.miniworker.private_engine import PrivateEngine

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]
TOKEN = "token-of-a-test"
#: Its password is "secret"; four rounds, as it guards nothing.
HTPASSWD = "skep:$2b$04$ikyRSgQMMj69Ci2u8.71AO2YjzlU82d9KtbjDDgsuy5lHN68tzHh2"
LIMIT_S = 120


class Swarm:
    """A swarm of one node, with the platform's images."""

    def __init__(self, own: PrivateEngine, settings: dict[str, str]) -> None:
        self._own = own
        self._env = {**os.environ, **settings, "SKEP_DOCKER_SOCKET": f"{own.folder}/s"}
        for image in settings.values():
            own.load(image)
        own.inside("ip", "link", "set", "lo", "up")
        here = ["--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377"]
        own.docker("swarm", "init", *here)
        own.docker("node", "update", "--label-add", "skep=home", own.docker("node", "ls", "-q"))

    def secret(self, name: str, text: str) -> None:
        file = self._own.folder / name
        file.write_text(text)
        self._own.docker("secret", "create", name, str(file))

    def deploy(self) -> None:
        command = ["stack", "deploy", "--resolve-image", "never", "--compose-file"]
        command += [str(engine.ROOT / "docker-stack.yml"), "skep"]
        engine.docker("--host", self._own.address, *command, env=self._env)

    def curl(self, *arguments: str) -> str:
        options = ["--noproxy", "*", "--silent", "--max-time", "60"]
        return self._own.inside("curl", *options, *arguments)

    def api(self, *arguments: str) -> Any:
        """Return what the api answers to one who has the token; None if it does not."""
        token = f"Authorization: Bearer {TOKEN}"
        try:
            return json.loads(self.curl("--header", token, *arguments))
        except subprocess.CalledProcessError:
            return None

    def kill(self, *services: str) -> None:
        for service in services:
            label = f"label=com.docker.swarm.service.name=skep_{service}"
            task = self._own.docker("ps", "--quiet", "--filter", label)
            self._own.docker("kill", task)


@pytest.fixture
def own() -> Iterator[PrivateEngine]:
    engine.require()
    # A short path: sockets of the engine are below it.
    with tempfile.TemporaryDirectory(prefix="skep-swarm-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        with PrivateEngine(Path(folder) / "e") as private:
            yield private
            with contextlib.suppress(AssertionError):
                private.docker("stack", "rm", "skep")
            private.docker("swarm", "leave", "--force")


def test_a_stack_wants_its_secrets_and_then_has_a_worker_on_the_node(
    own: PrivateEngine,
) -> None:
    swarm = Swarm(own, platform_image.settings())
    with pytest.raises(AssertionError, match="secret not found"):
        swarm.deploy()
    swarm.secret("skep_token", TOKEN)
    swarm.secret("skep_registry", HTPASSWD)
    swarm.deploy()
    (worker,) = eventually(lambda: swarm.api("localhost:3000/workers"), LIMIT_S, "a worker")
    assert (worker["name"], worker["sandbox"]) == (os.uname().nodename, "docker")
    assert "unauthorized" in swarm.curl("localhost:3000/workers")
    status = ["--output", "/dev/null", "--write-out", "%{http_code}"]
    asked = ["localhost:5000/v2/", "--user", "skep:secret"]
    assert [swarm.curl(*status, asked[0]), swarm.curl(*status, *asked)] == ["401", "200"]

    # The platform's image has a Python too.
    image = platform_image.settings()["SKEP_IMAGE"]
    swarm.api("--json", json.dumps({"image": image}), "localhost:3000/registerFunction/image/f")
    call = ["--json", json.dumps({"funcName": "f", "params": ["python3", "-c", "print(7)"]})]
    call.append("localhost:3000/invokeFunction?wait=50")
    assert swarm.api(*call)["result"] == "7"
    # Swarm starts others, at other addresses: everybody finds them by name.
    swarm.kill("dbnode", "api")
    again = eventually(
        lambda: (swarm.api(*call) or {}).get("result"), LIMIT_S, "a call after it"
    )
    assert again == "7"
