"""Where a folder of this process is for the engine, which may see another file system. Pure.

On the same machine a path is the same for both. A worker that is itself in a container has
mounts of its own: what lies under one of them is, for the engine, under the mount's source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def host_path(path: str, mounts: Mapping[str, str]) -> str:
    """Return a path as the engine's host has it; ``mounts`` are sources by target."""
    target = mount_of(path, mounts)
    if target is None:
        return path
    source = mounts[target].rstrip("/")
    return source + path[len(target.rstrip("/")) :] or "/"


def mount_of(path: str, mounts: Iterable[str]) -> str | None:
    """Return the mount that a path lies in, of these targets."""
    return max((target for target in mounts if _is_under(path, target)), key=len, default=None)


def _is_under(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
