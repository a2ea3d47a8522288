"""Base images: as they are there, pulled, or made from Debian's packages, and said so."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final, Protocol

from cli.options import say
from cli.runtime import RUNTIMES
from skep import SkepError

#: What runtimes/base-image.sh makes: a Debian of that suite, from packages.
_MADE_HERE: Final = re.compile(r"debian:(\w+)-slim")
_BASE: Final = re.compile(r"^ARG\s+BASE=(\S+)\s*$", re.MULTILINE)
_ARGUMENT: Final = "BASE=IMAGE"


class NoImage(SkepError):
    """An image could not be made, or the engine does not answer."""

    code = "image_unavailable"


class Known(Protocol):
    """The images that an engine has, and those that it can get."""

    def has(self, name: str) -> bool:
        """Return whether the engine has an image of this name."""

    def pull(self, name: str) -> str:
        """Get an image from its registry; return why that failed, or nothing."""


def ensure_base(images: Known, folder: Path, given: dict[str, str]) -> None:
    """Have the base image: as it is there, pulled, or made from packages."""
    found = _BASE.search((folder / "Dockerfile").read_text(encoding="utf-8"))
    base = given.get("BASE") or (found[1] if found else "")
    if not base or images.has(base):
        return
    say(f"pulling {base}")
    why = images.pull(base)
    if not why:
        return
    suite = _MADE_HERE.fullmatch(base)
    if suite is None:
        raise NoImage(
            f"the base image {base!r} is neither here nor can it be pulled: {why}",
            hint=f"docker load it, or --build-arg {_ARGUMENT} names another",
        )
    say(f"{base} is neither here nor can it be pulled ({why}): it is made from Debian packages")
    _make_base(base, suite[1])


def _make_base(base: str, suite: str) -> None:
    script = RUNTIMES / "base-image.sh"
    made = subprocess.run(
        ["sh", str(script), base],
        env=os.environ | {"SKEP_BASE_SUITE": suite},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if made.returncode != 0:
        raise NoImage(
            f"the base image {base!r} was not made",
            hint="above is why; SKEP_BASE_MIRROR and http_proxy say how Debian is reached",
        )
