"""The one front door of the ``docker`` package in the command line: images are made here.

Nothing is decided here: what the engine says comes out as lines, or as one error of our own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import docker
import docker.errors
import docker.utils
import requests

from cli.bases import NoImage

#: A build may be silent for long.
WAIT_S: Final = 1800
#: Of the Engine API: Docker 20.10.
VERSION: Final = "1.41"


class Images:
    """The images of the engine that DOCKER_HOST names, or of this host's own."""

    def __init__(self) -> None:
        with _told():
            given = docker.utils.kwargs_from_env()
            self._api = docker.APIClient(**given, version=VERSION, timeout=WAIT_S)

    def __repr__(self) -> str:
        return f"<Images of {self._api.base_url}>"

    def close(self) -> None:
        """Close the connection."""
        self._api.close()

    def has(self, name: str) -> bool:
        """Return whether the engine has an image of this name."""
        with _told():
            try:
                self._api.inspect_image(name)
            except docker.errors.ImageNotFound:
                return False
        return True

    def pull(self, name: str) -> str:
        """Get an image from its registry; return why that failed, or nothing."""
        repository, _, tag = name.rpartition(":")
        if not repository or "/" in tag:
            repository, tag = name, "latest"
        why = ""
        try:
            with _told():
                # To its end, or the connection would stay.
                for line in self._api.pull(repository, tag=tag, stream=True, decode=True):
                    why = why or line.get("error", "")
        except NoImage as error:
            return error.message
        return why

    def build(
        self, folder: Path, tag: str, arguments: Mapping[str, str], network: str | None
    ) -> Iterator[str]:
        """Make an image of a folder with a Dockerfile; yield what is said meanwhile.

        Raises:
            NoImage: it cannot be made; the lines before it say more.
        """
        given: dict[str, Any] = {"buildargs": dict(arguments), "rm": True, "forcerm": True}
        with _told():
            said = self._api.build(
                path=str(folder), tag=tag, network_mode=network, decode=True, **given
            )
            why = ""
            for line in said:
                why = why or line.get("error", "")
                yield line.get("stream", "")
        if why:
            raise NoImage(f"the image {tag!r} was not made: {why.strip()}")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say in one sentence what the package, HTTP or the socket complains of."""
    try:
        yield
    except docker.errors.APIError as error:
        raise NoImage(f"the Docker engine refused: {error.explanation or error}") from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise NoImage(
            f"no Docker engine answers: {error}",
            hint="start it (dockerd, or systemctl start docker); DOCKER_HOST says where it is",
        ) from error
