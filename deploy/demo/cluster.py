"""A project of docker-compose with names, ports and a token that no other has."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TextIO, TypeVar

from deploy.demo.page import Page

T = TypeVar("T")
ROOT: Final = Path(__file__).resolve().parents[2]
#: Sandboxes are made and dead nodes are noticed (10 s) on machines that do other things too.
PATIENCE_S: Final = 240.0
_LOOK_S: Final = 0.1
_COMMAND_S: Final = 180.0
_GRACE: Final = ("--timeout", "30")


class Failed(Exception):
    """A step did not do what it should; ``hint`` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Cluster:
    """The project: its containers, by the names that docker-compose.yml gives, and its api."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.project = f"skep-demo-{secrets.token_hex(3)}"
        self.folder = folder
        self.url = ""
        self.is_begun = False
        self._page = page
        self._token = secrets.token_hex(16)
        self._compose = compose()
        #: As a person would write it here.
        self.program = " ".join(self._compose)
        own = {"SKEP_INSTALLATION": self.project, "SKEP_TOKEN": self._token}
        free = {"SKEP_PORT": "0", "SKEP_REGISTRY_PORT": "0"}
        # curl reads the token there: a command line can be read by every user of the machine.
        self._env = {**free, **os.environ, **own, "CURL_HOME": str(folder)}
        (folder / ".curlrc").write_text(
            f'header = "Authorization: Bearer {self._token}"\n'
            f'noproxy = "*"\nsilent\nshow-error\nmax-time = {PATIENCE_S:.0f}\n'
        )

    def make_images(self, runtimes: Sequence[str]) -> list[str]:
        """Make what images are missing; return the platform's and the registry's name."""
        made = self.folder / "images.env"
        with made.open("w") as stdout:
            self._follow(["sh", "deploy/images.sh", *runtimes], "images.log", stdout)
        pairs = dict(line.partition("=")[::2] for line in made.read_text().splitlines())
        self._env.update(pairs)
        return [pairs["SKEP_IMAGE"], pairs["SKEP_REGISTRY_IMAGE"]]

    def up(self) -> None:
        """Start all of it, and find out where the api is."""
        self.is_begun = True
        with (self.folder / "compose.out").open("w") as stdout:
            self._follow([*self._command(), "up", "--detach"], "compose.log", stdout)
        self.url = f"http://{self.compose('port', 'api', '3000')}"

    def compose(self, *arguments: str) -> str:
        """Run docker-compose; return what it printed."""
        return self.run(*self._command(), *arguments)

    def run(self, *command: str) -> str:
        """Run a command to its end; return what it printed."""
        # Ctrl-C is for the demo, which then takes down what the command was about.
        try:
            ran = subprocess.run(
                command, cwd=ROOT, env=self._env, capture_output=True, text=True,
                timeout=_COMMAND_S, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{shlex.join(command)} took more than {_COMMAND_S:.0f} s") from error
        if ran.returncode != 0:
            raise Failed(f"{shlex.join(command)}: {(ran.stderr or ran.stdout).strip()}")
        return ran.stdout.strip()

    def curl(self, *arguments: str) -> str:
        """Show a curl command, run it, and return the answer; an error fails."""
        *options, path = arguments
        where = self.url.removeprefix("http://") + path
        self._page.command(f"curl {shlex.join([*options, where])}")
        return self.run("curl", "--fail-with-body", *options, where)

    def get(self, path: str) -> Any:
        """Return what a GET of the api answers, without showing it."""
        return self.ask(path, None)

    def ask(self, path: str, body: Any) -> Any:
        """Return the answer to a GET, or to a POST if there is a body."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)  # noqa: S310 - its own
        try:
            with _DIRECT.open(request, timeout=PATIENCE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Failed(f"{path}: {error.read().decode(errors='replace')}") from error
        except OSError as error:
            raise Failed(f"the api does not answer {path}: {error}") from error

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        return self.compose("ps", "--quiet", service)

    def addresses(self, services: Iterable[str]) -> list[str]:
        """Return the addresses of the host that any of the services is published on."""
        ports = "{{json .NetworkSettings.Ports}}"
        ids = [self.container(service) for service in services]
        found = self.run("docker", "inspect", "--format", ports, *ids).splitlines()
        bound = [one for line in found for one in json.loads(line).values() if one]
        return [one["HostIp"] for several in bound for one in several]

    def sandboxes(self, node: str = "") -> list[str]:
        """Return the containers of calls: of one node, by its id, or of all."""
        filters = [f"--filter=label=skep={self.project}"]
        filters += [f"--filter=label=skep.node={node}"] if node else []
        return self.run("docker", "ps", "--all", "--quiet", *filters).split()

    def until(self, condition: Callable[[], T | None], what: str) -> T:
        """Return the first true value of the condition."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(_LOOK_S)
        raise Failed(f"not within {PATIENCE_S:.0f} s: {what}")

    def keep_logs(self) -> None:
        """Write what its containers said to ``cluster.log``, the records to ``calls.json``."""
        try:
            said = self.compose("logs", "--no-color", "--timestamps")
        except Failed as error:
            said = str(error)
        (self.folder / "cluster.log").write_text(said + "\n")
        with contextlib.suppress(Failed):
            calls = self.get("/calls?limit=1000") if self.url else {}
            (self.folder / "calls.json").write_text(json.dumps(calls, indent=1))

    def down(self) -> None:
        """Take all of it down: containers, those of calls, volumes and networks.

        Raises:
            Failed: something is left.
        """
        self.compose("down", *_GRACE, "--remove-orphans")
        # Those of a worker that was killed still use its volume.
        for container in self.sandboxes():
            self.run("docker", "rm", "--force", "--volumes", container)
        self.compose("down", "--volumes")
        mine = f"--filter=label=com.docker.compose.project={self.project}"
        left = self.run("docker", "ps", "--all", "--quiet", mine).split()
        left += self.run("docker", "volume", "ls", "--quiet", mine).split()
        left += self.run("docker", "network", "ls", "--quiet", mine).split()
        if left:
            raise Failed(f"left on the engine: {' '.join(left)}")

    def _command(self) -> list[str]:
        return [*self._compose, "--project-name", self.project, "--file", "docker-compose.yml"]

    def _follow(self, command: list[str], log: str, stdout: TextIO) -> None:
        """Run a command that takes its time: what it says is shown as it comes, and kept."""
        path = self.folder / log
        last = ""
        with path.open("a") as kept, subprocess.Popen(
            command, cwd=ROOT, env=self._env, text=True, errors="replace",
            stdout=stdout, stderr=subprocess.PIPE, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                for line in process.stderr or ():
                    kept.write(line)
                    last = line.strip() or last
                    self._page.live(line)
            except KeyboardInterrupt:
                process.terminate()
                raise
        if process.returncode != 0:
            raise Failed(f"{shlex.join(command)}: {last}", hint=f"all it said is in {path}")


def compose() -> list[str]:
    """Return the command that compose is here.

    Raises:
        Failed: something that the demo needs is not there, or does not answer.
    """
    for needed in ("docker", "curl"):
        if shutil.which(needed) is None:
            raise Failed(f"there is no {needed} command", hint="see docs/deploy.md")
    if not _works("docker", "version"):
        raise Failed("the Docker engine does not answer", hint="docker version says why")
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and _works(*command, "version"):
            return command
    raise Failed(
        "there is neither docker compose nor docker-compose",
        hint="apt-get install docker-compose, or Docker's plugin docker-compose-plugin",
    )


def _works(*command: str) -> bool:
    ran = subprocess.run(command, capture_output=True, check=False, start_new_session=True)
    return ran.returncode == 0


#: A proxy of the environment is for other machines.
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
