"""The one front door of the ``docker`` package: the calls of the Engine API that are needed.

Nothing is decided here. Errors of the package, of HTTP and of the socket come out as two of
our own: the engine is *away* (it does not answer), or it *refused* (it said why).
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import docker
import docker.errors
import docker.utils
import msgspec
import requests

from miniworker.underway import Underway
from wire import baked
from wire.errors import SkepError

#: Of the Engine API before anything else is known: Docker 20.10.
LEAST_VERSION: Final = "1.41"
DEFAULT_ADDRESS: Final = "unix:///var/run/docker.sock"
#: A start waits for the kernel, for storage and for other starts.
WAIT_S: Final = 60.0
LOG_LINES: Final = 20
LOG_CHARS: Final = 2000
#: How often one is removed that ends by itself just then.
REMOVE_TRIES: Final = 5
_NOT_RUNNING: Final = "is not running"
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409


class EngineAway(SkepError):
    """The engine does not answer, or not to us."""

    code = "no_sandbox"


class EngineRefused(SkepError):
    """The engine understood, and said no."""

    code = "no_sandbox"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_missing(self) -> bool:
        """Return whether what was asked for is not there."""
        return self.status == _NOT_FOUND


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine knows of an image, as far as a sandbox depends on it."""

    id: str
    architecture: str
    user: str = ""
    env: dict[str, str] = {}
    volumes: tuple[str, ...] = ()
    #: What was baked into it (``wire.baked``); empty for most.
    baked: str = ""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a container runs, and how it ended if it does not."""

    running: bool
    exit_code: int
    oom_killed: bool
    pid: int
    error: str = ""


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """Where a folder of a container comes from, on the engine's host."""

    source: str
    #: Whether it is a volume of the engine's, and not a folder that somebody named.
    is_volume: bool = False


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """One that the engine has, running or not."""

    id: str
    names: tuple[str, ...]
    labels: dict[str, str]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The engine itself."""

    version: str
    api_version: str
    architecture: str
    cgroup_version: str
    cgroup_driver: str


class Engine:
    """A connection to one engine; it is made with the first request.

    With ``underway`` it is noted there which containers were asked for and not answered.
    """

    def __init__(
        self,
        address: str = "",
        version: str = LEAST_VERSION,
        wait_s: float = WAIT_S,
        underway: Underway | None = None,
    ) -> None:
        self._underway = underway
        self.address = address or default_address()
        self._version = version
        self._wait_s = wait_s

    def __repr__(self) -> str:
        return f"<Engine at {self.address}>"

    @cached_property
    def _api(self) -> docker.APIClient:
        given = {**docker.utils.kwargs_from_env(), "base_url": self.address}
        return docker.APIClient(**given, version=self._version, timeout=self._wait_s)

    @property
    def version(self) -> str:
        """Return that of the API as it is spoken; the engine is asked if it is ``auto``."""
        with _told(self.address):
            spoken: str = self._api.api_version
        return spoken

    def close(self) -> None:
        """Close the connection, if there is one."""
        if "_api" in vars(self):
            self._api.close()

    def about(self) -> About:
        """Return what the engine is."""
        with _told(self.address):
            version, info = self._api.version(api_version=False), self._api.info()
        return About(
            version=version["Version"],
            api_version=version["ApiVersion"],
            architecture=version["Arch"],
            cgroup_version=info.get("CgroupVersion", "1"),
            cgroup_driver=info.get("CgroupDriver", ""),
        )

    def image(self, name: str) -> Image:
        """Return what there is to know of an image."""
        with _told(self.address):
            found = self._api.inspect_image(name)
        config = found.get("Config") or {}
        pairs = (pair.partition("=") for pair in config.get("Env") or ())
        return Image(
            id=found["Id"],
            architecture=found.get("Architecture", ""),
            user=config.get("User") or "",
            env={name: value for name, _, value in pairs},
            volumes=tuple(config.get("Volumes") or ()),
            baked=(config.get("Labels") or {}).get(baked.LABEL, ""),
        )

    def pull(self, name: str, credentials: str = "") -> Iterator[Mapping[str, Any]]:
        """Get an image from its registry; yield what the engine says of that.

        ``credentials`` is a file as ``docker login`` writes it; empty for the usual one.
        """
        with _told(self.address):
            self._api.reload_config(credentials or None)
            repository, tag = docker.utils.parse_repository_tag(name)
            yield from self._api.pull(repository, tag=tag, stream=True, decode=True)

    def create(self, name: str, body: Mapping[str, Any]) -> str:
        """Make a container of these options; return its id."""
        if self._underway is None:
            return self._create(name, body)
        self._underway.begin(name, body["Labels"])
        try:
            container = self._create(name, body)
        except EngineRefused:
            self._underway.end(name)
            raise
        # Not if it is away: it may have understood.
        self._underway.end(name)
        return container

    def _create(self, name: str, body: Mapping[str, Any]) -> str:
        with _told(self.address):
            made = self._api.create_container_from_config(dict(body), name)
        container: str = made["Id"]
        return container

    def start(self, container: str) -> None:
        """Start it; when this returns its first process has been executed."""
        with _told(self.address):
            self._api.start(container)

    @property
    def why_not_attached(self) -> str:
        """Return why nobody can attach to a container of this engine; empty if one can."""
        is_plain = self.address.startswith(("unix://", "tcp://", "http://"))
        if is_plain and "tls" not in docker.utils.kwargs_from_env():
            return ""
        return f"streams of the engine at {self.address} are not to be had: unix or plain tcp"

    def attach(self, container: str) -> socket.socket:
        """Return a connection to stdin, stdout and stderr of one that has not started yet."""
        wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        with _told(self.address):
            given = self._api.attach_socket(container, params=wanted)
            # A descriptor of our own: theirs has no end of sending, and dies with its answer.
            own = socket.socket(fileno=os.dup(given.fileno()))
            given._response.close()  # noqa: SLF001 - there alone to be kept, says the package
            return own

    def kill(self, container: str) -> None:
        """End all its processes; one that has ended is fine."""
        try:
            with _told(self.address):
                self._api.kill(container)
        except EngineRefused as error:
            if error.status not in (_NOT_FOUND, _CONFLICT):
                raise

    def ended(self, container: str, wait_s: float) -> State | None:
        """Return how it ended, waiting a little for that; None if it runs on."""
        with contextlib.suppress(requests.RequestException, OSError, docker.errors.APIError):
            self._api.wait(container, timeout=wait_s)
        # Asked also when that failed: only this says whether the engine still knows it.
        state = self.state(container)
        return None if state.running else state

    def state(self, container: str) -> State:
        """Return whether it runs."""
        with _told(self.address):
            found = self._api.inspect_container(container)["State"]
        return State(
            running=found["Running"],
            exit_code=found["ExitCode"],
            oom_killed=found["OOMKilled"],
            pid=found["Pid"],
            error=found["Error"],
        )

    def printed(self, container: str) -> str:
        """Return the end of what its first process printed."""
        with _told(self.address):
            said: bytes = self._api.logs(container, tail=LOG_LINES)
        return said.decode(errors="replace").strip()[-LOG_CHARS:]

    def file(self, container: str, path: str) -> bytes:
        """Return the content of a small file in a container, running or not."""
        with _told(self.address):
            chunks, _ = self._api.get_archive(container, path)
            packed = io.BytesIO(b"".join(chunks))
        with tarfile.open(fileobj=packed) as archive:
            member = archive.next()
            file = archive.extractfile(member) if member is not None else None
            return file.read() if file is not None else b""

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """Return all containers, running or not, that have these labels."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        with _told(self.address):
            found = self._api.containers(all=True, filters={"label": wanted})
        return [
            Container(
                id=one["Id"],
                names=tuple(name.removeprefix("/") for name in one["Names"] or ()),
                labels=one["Labels"],
            )
            for one in found
        ]

    def put(self, container: str, folder: str, pieces: Iterable[bytes]) -> None:
        """Unpack a tar, given in pieces, in a folder of a container, running or not."""
        with _told(self.address):
            self._api.put_archive(container, folder, iter(pieces))

    def archive(self, container: str, path: str) -> Iterator[bytes]:
        """Give a folder of a container, running or not, as the pieces of a tar."""
        with _told(self.address):
            pieces, _ = self._api.get_archive(container, path)
            yield from pieces

    def mounts(self, container: str) -> dict[str, Mount]:
        """Return where a container's folders come from, by target."""
        with _told(self.address):
            found = self._api.inspect_container(container)["Mounts"]
        return {
            one["Destination"]: Mount(source=one["Source"], is_volume=one["Type"] == "volume")
            for one in found
            if one["Source"]
        }

    def remove(self, container: str) -> bool:
        """Kill all of it and forget it; one that is being removed is fine.

        Returns False if there is none: it is gone, or, listed as it may be already, is still
        being made, and then it will be there.
        """
        for tries_left in range(REMOVE_TRIES, 0, -1):
            try:
                with _told(self.address):
                    self._api.remove_container(container, force=True, v=True)
            except EngineRefused as error:
                # It ended by itself between the engine's look and the engine's kill.
                if _NOT_RUNNING in error.message and tries_left > 1:
                    continue
                if error.status not in (_NOT_FOUND, _CONFLICT):
                    raise
                return not error.is_missing
            else:
                break
        return True


def default_address() -> str:
    """Return where the engine is, by DOCKER_HOST or by custom."""
    given: str = docker.utils.kwargs_from_env().get("base_url", "")
    return given or DEFAULT_ADDRESS


@contextlib.contextmanager
def _told(address: str) -> Iterator[None]:
    try:
        yield
    except docker.errors.APIError as error:
        said = error.explanation or str(error)
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise EngineRefused(text, status=error.status_code or 500) from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        message = f"the Docker engine at {address} does not answer: {_cause(error)}"
        raise EngineAway(message, hint=_HINT) from error


def _cause(error: BaseException) -> str:
    """Return the plainest words in a chain of wrapped errors."""
    seen: BaseException = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    return str(seen) or type(seen).__name__


_HINT: Final = "see it with: docker version; DOCKER_HOST says where the engine is"
