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
_NO_SPACE: Final = "no space left on device"
_FULL: Final = "the disk of the engine is full: docker system df says what takes the space"


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
        repository, tag = docker.utils.parse_repository_tag(name)
        why = ""
        try:
            with _told():
                # To its end, or the connection would stay.
                for line in self._api.pull(
                    repository, tag=tag or "latest", stream=True, decode=True
                ):
                    why = why or line.get("error", "")
        except NoImage as error:
            return error.message
        return why

    def user(self, name: str) -> str:
        """Return whose the processes of an image are; empty if it does not say."""
        with _told():
            config = self._api.inspect_image(name).get("Config") or {}
        user: str = config.get("User") or ""
        return user

    def tag(self, name: str, other: str) -> None:
        """Give an image that is here another name too."""
        repository, tag = docker.utils.parse_repository_tag(other)
        with _told():
            try:
                self._api.tag(name, repository, tag or "latest", force=True)
            except docker.errors.ImageNotFound as error:
                raise NoImage(
                    f"there is no image {name!r} on the Docker engine here",
                    hint="skep runtime build and skep function build make them",
                ) from error

    def push(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Put an image into the registry that its name says; yield what is said meanwhile.

        Raises:
            NoImage: it is not there now.
        """
        repository, tag = docker.utils.parse_repository_tag(name)
        why = ""
        with _told():
            for line in self._api.push(repository, tag or "latest", stream=True, decode=True):
                why = why or line.get("error", "")
                yield line
        if why:
            raise NoImage(
                f"the image {name!r} was not pushed: {why.strip()}",
                hint="is its registry there? docker login gives it credentials",
            )

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
            hint = _FULL if _NO_SPACE in why else ""
            raise NoImage(f"the image {tag!r} was not made: {why.strip()}", hint=hint)

    def forget(self, label: str) -> None:
        """Remove the images without a name that have this label; who uses one keeps it."""
        with _told():
            wanted = {"label": label, "dangling": True}
            for one in self._api.images(quiet=True, filters=wanted):
                with contextlib.suppress(docker.errors.APIError):
                    self._api.remove_image(one)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say in one sentence what the package, HTTP or the socket complains of."""
    try:
        yield
    except docker.errors.APIError as error:
        said = str(error.explanation or error)
        hint = _FULL if _NO_SPACE in said else ""
        raise NoImage(f"the Docker engine refused: {said}", hint=hint) from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise NoImage(
            f"no Docker engine answers: {error}",
            hint="start it (dockerd, or systemctl start docker); DOCKER_HOST says where it is",
        ) from error
