"""What a function finds inside a container: where its code is, and its environment. Pure.

A node makes it so for each sandbox, and the command line once for an image that a function is
baked into: the two must not differ.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Final

TMP: Final = "/tmp"  # noqa: S108 - the container's own
#: Stands in for a path that would hide the image's system.
STAND_IN: Final = "/ws"
#: Where pip puts a bundle's packages, inside the runtime's path.
PACKAGES: Final = ".packages"
#: Where no runtime's path can be: a container would not start, or not be the image any more.
WHOLE: Final = frozenset({"proc", "sys", "dev", "skep"})
ALONE: Final = frozenset(
    {"tmp", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "var", "run", "opt"}
)
PROGRAMS: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def path_inside(path: str) -> str:
    """Return the runtime's path if a container can have it, else what stands in for it."""
    clean = "/" + posixpath.normpath(path).lstrip("/")
    first, _, rest = clean[1:].partition("/")
    if not path.startswith("/") or not first or first in WHOLE:
        return STAND_IN
    return STAND_IN if first in ALONE and not rest else clean


def environment(path: str, image: Mapping[str, str]) -> dict[str, str]:
    """Return what a function's environment begins with: the image's own, and the folders."""
    packages = f"{path}/{PACKAGES}"
    return {
        **image,
        "PATH": f"{packages}/bin:{image.get('PATH') or PROGRAMS}",
        "LANG": image.get("LANG", "C.UTF-8"),
        "HOME": TMP,
        "TMPDIR": TMP,
        "USER": "skep",
        "LOGNAME": "skep",
        **installing(packages),
    }


def installing(packages: str) -> dict[str, str]:
    """Return what has pip install into a folder, and Python find it there."""
    return {
        "PIP_TARGET": packages,
        "PYTHONPATH": packages,
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_NO_CACHE_DIR": "1",
    }
