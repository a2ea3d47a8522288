"""Who an image's user is, in numbers: what a work folder's owner has to be said in.

A number says it by itself. A name is looked up in the image's own files, once for an image,
which never changes, by way of a container that is never started.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from miniworker import passwd
from miniworker.engine import Engine, EngineRefused, Image


def of(
    engine: Engine, image: Image, known: Path, name: str, labels: Mapping[str, str]
) -> tuple[int, int] | None:
    """Return (uid, gid); None if the image has no such user. ``known`` keeps what was found."""
    if passwd.is_numeric(image.user) and ":" in image.user:
        uid, _, gid = image.user.partition(":")
        return int(uid), int(gid)
    place = known / image.id.rpartition(":")[2]
    if place.exists():
        return msgspec.json.decode(place.read_bytes(), type=tuple[int, int])
    user = passwd.resolve(image.user, *_files(engine, image, name, labels))
    if user is not None:
        half = place.with_suffix(f".{os.getpid()}")
        half.write_bytes(msgspec.json.encode(user))
        half.rename(place)
    return user


def _files(
    engine: Engine, image: Image, name: str, labels: Mapping[str, str]
) -> tuple[str, str]:
    body = {"Image": image.id, "Cmd": ["-"], "Labels": dict(labels)}
    container = engine.create(name, body)
    try:
        return _file(engine, container, "/etc/passwd"), _file(engine, container, "/etc/group")
    finally:
        engine.remove(container)


def _file(engine: Engine, container: str, path: str) -> str:
    try:
        return engine.file(container, path).decode(errors="replace")
    except EngineRefused as error:
        if error.is_missing:
            return ""
        raise
