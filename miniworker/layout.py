"""What a sandbox sees of the file system, and how that view is made.

Where the host permits, a sandbox has a root of its own: the system's programs and libraries
read-only, the bundle read-only, and as writable places only the work folder and /tmp. The
same view is made by bwrap's options or by mounting it here. Without a view, private folders
stand in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from miniworker import kernel
from wire.inside import PACKAGES, STAND_IN, installing

#: Of the host's root, what programs need; the rest does not exist in a view.
SYSTEM: Final = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt")
#: First components that a runtime's path cannot have in a view: they mean something there.
RESERVED: Final = frozenset({*SYSTEM, "proc", "dev", "tmp", "skep", "sys", "run", ""})
#: Where a generic sandbox sees all bundles, and cannot list them.
BUNDLES: Final = "/skep/bundles"
DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
LEAST_TMPFS: Final = 64 << 20
SHARED_MEMORY: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things are, as the sandbox sees them, and where they are on the host."""

    path: str
    bundle: str
    tmp: str
    tools: str
    sockets: str
    host_folder: str
    host_bundle: str
    host_tools: str
    build: bool
    #: Where all bundles are shown, of which ``bundle`` is one; empty: that one alone is.
    bundles: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that a view is made of."""

    places: Places
    network: bool
    uid: int | None
    binds: tuple[str, ...]
    memory_bytes: int

    @property
    def tmpfs_bytes(self) -> int:
        """Return how much each of the two writable places may hold."""
        return max(self.memory_bytes, LEAST_TMPFS)

    def read_only(self) -> Iterator[tuple[str, str]]:
        """Yield (source, target) of what is shown but cannot be changed."""
        for path in self.binds:
            if needs_bind(path):
                yield path, path
        if self.network:
            resolver = os.path.realpath("/etc/resolv.conf")
            if needs_bind(resolver):
                yield resolver, resolver
        places = self.places
        yield places.host_tools, places.tools
        yield f"{places.host_folder}/sock", places.sockets
        if not places.build:
            yield places.host_bundle, places.bundles or places.bundle

    def writable(self) -> Iterator[tuple[str, str]]:
        """Yield (source, target) of the host's folders that a build may change."""
        if self.places.build:
            yield self.places.host_bundle, self.places.path
            yield f"{self.places.host_folder}/tmp", self.places.tmp  # noqa: S108 - its own

    def memory_folders(self) -> Iterator[str]:
        """Yield what is writable, limited in size, and gone with the sandbox."""
        if not self.places.build:
            yield self.places.path
            yield self.places.tmp


def places(
    *, has_view: bool, folder: str, bundle: str, tools: str, path: str, build: bool
) -> Places:
    """Return where things are, with a view or without."""
    inside = path_in_view(path) if has_view else f"{folder}/work"
    shared = "/skep/bundle" if has_view else bundle
    if build:
        inside = shared = inside if has_view else bundle
    return Places(
        path=inside,
        bundle=shared,
        tmp="/tmp" if has_view else f"{folder}/tmp",  # noqa: S108 - the sandbox's own
        tools="/skep/tools" if has_view else tools,
        sockets="/skep/sock" if has_view else f"{folder}/sock",
        host_folder=folder,
        host_bundle=bundle,
        host_tools=tools,
        build=build,
    )


def generic_places(
    *, has_view: bool, folder: str, bundles: str, tools: str, path: str
) -> Places:
    """Return where things are in a sandbox that does not know its bundle yet."""
    made = places(
        has_view=has_view, folder=folder, bundle=bundles, tools=tools, path=path, build=False
    )
    shared = BUNDLES if has_view else bundles
    return replace(made, bundle=shared, bundles=shared)


def path_in_view(path: str) -> str:
    """Return the runtime's path if a view can have it, else what stands in for it."""
    clean = os.path.normpath(path)
    if not clean.startswith("/") or clean.split("/")[1] in RESERVED:
        return STAND_IN
    return "/" + clean.lstrip("/")


def environment(places: Places) -> dict[str, str]:
    """Return the environment that a function's begins with: nothing of the host's is in it."""
    packages = f"{places.path}/{PACKAGES}"
    programs = f"{places.tools}/bin:{packages}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return {
        "PATH": programs,
        "LANG": "C.UTF-8",
        "HOME": places.tmp,
        "TMPDIR": places.tmp,
        "USER": "skep",
        "LOGNAME": "skep",
        **installing(packages),
    }


def needs_bind(path: str) -> bool:
    """Return whether a path exists on the host but not in a view."""
    top = path.split("/")[1] if path.startswith("/") else ""
    return top not in SYSTEM and top not in ("proc", "dev", "") and Path(path).exists()


# --- by bwrap -------------------------------------------------------------------------------


def bwrap(view: View, program: str, command: list[str]) -> list[str]:
    """Return bwrap's command line for a view with this command in it."""
    argv = [program, "--die-with-parent", "--as-pid-1", "--proc", "/proc", "--dev", "/dev"]
    argv += _bwrap_namespaces(view)
    for name in SYSTEM:
        argv += _bwrap_system(Path("/", name))
    argv += _bwrap_parents([target for _, target in view.writable()])
    argv += _bwrap_parents([*view.memory_folders(), "/var/tmp"])  # noqa: S108 - inside
    for source, target in view.writable():
        argv += ["--bind", source, target]
    for target in view.memory_folders():
        argv += ["--perms", "1777", "--size", str(view.tmpfs_bytes), "--tmpfs", target]
    # Last, for what is shown may lie in a folder that is writable, such as /tmp.
    argv += _bwrap_parents([target for _, target in view.read_only()])
    for source, target in view.read_only():
        argv += ["--ro-bind", source, target]
    argv += ["--perms", "1777", "--size", str(SHARED_MEMORY), "--tmpfs", "/dev/shm"]  # noqa: S108
    argv += ["--symlink", "/tmp", "/var/tmp"]  # noqa: S108 - inside
    # These two are in memory, unlimited, and the user's own where bwrap runs as a user.
    argv += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
    return [*argv, "--", *_dropping(view, command)]


def _bwrap_namespaces(view: View) -> list[str]:
    if view.uid is None:
        return ["--unshare-all", *(["--share-net"] if view.network else [])]
    argv = ["--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    argv += [] if view.network else ["--unshare-net"]
    # What the launcher needs to become the sandbox's user, and nothing else.
    return [*argv, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]


def _bwrap_parents(targets: list[str]) -> list[str]:
    """Make every folder above what is shown, the outermost first."""
    above = [str(parent) for path in targets for parent in reversed(Path(path).parents)]
    folders = [folder for folder in dict.fromkeys(above) if folder != "/"]
    # bwrap makes them itself too, but passable for root alone.
    return [word for folder in folders for word in ("--perms", "0755", "--dir", folder)]


def _bwrap_system(path: Path) -> list[str]:
    if path.is_symlink():
        return ["--symlink", str(path.readlink()), str(path)]
    return ["--ro-bind", str(path), str(path)] if path.is_dir() else []


def _dropping(view: View, command: list[str]) -> list[str]:
    if view.uid is None:
        return command
    tools = view.places.tools
    return [f"{tools}/bin/python3", "-I", f"{tools}/launcher.py", str(view.uid), *command]


# --- by our own hands, as root in new namespaces ----------------------------------------------


def enter(view: View, root: Path) -> None:
    """Make the view on this folder and make it the root of this process.

    The caller is PID 1 of a new pid namespace and alone in a new mount namespace: nothing
    of this can be seen from outside, and all of it ends with the sandbox.
    """
    kernel.mount("none", "/", flags=kernel.RECURSIVE | kernel.PRIVATE)
    _memory(root, "mode=0755,size=4m", kernel.NO_SUID | kernel.NO_DEV)
    for name in SYSTEM:
        _system(Path("/", name), root)
    for source, target in view.writable():
        _bind(source, _inside(root, target), read_only=False)
    for target in view.memory_folders():
        options = f"mode=1777,size={view.tmpfs_bytes}"
        _memory(_inside(root, target), options, kernel.NO_SUID | kernel.NO_DEV)
    # After them, for what is shown may lie in a folder that is writable, such as /tmp.
    for source, target in view.read_only():
        _bind(source, _inside(root, target))
    _special(root)
    os.chdir(root)
    kernel.mount(".", "/", flags=kernel.MOVE)
    os.chroot(".")
    os.chdir("/")


def _system(path: Path, root: Path) -> None:
    target = _inside(root, str(path))
    if path.is_symlink():
        target.symlink_to(path.readlink())
    elif path.is_dir():
        _bind(str(path), target)


def _special(root: Path) -> None:
    """Make /proc, a /dev with the harmless devices only, and /var/tmp."""
    flags = kernel.NO_SUID | kernel.NO_DEV | kernel.NO_EXEC
    (root / "proc").mkdir()
    kernel.mount("proc", str(root / "proc"), "proc", flags)
    for name in DEVICES:
        if Path("/dev", name).exists():
            _bind(f"/dev/{name}", _inside(root, f"/dev/{name}"), read_only=False)
    _memory(root / "dev/shm", f"mode=1777,size={SHARED_MEMORY}", flags)
    links = (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2"))
    for name, rest in links:
        (root / "dev" / name).symlink_to(f"/proc/self/fd{rest}")
    (root / "var").mkdir()
    (root / "var/tmp").symlink_to("/tmp")  # noqa: S108 - inside


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _memory(target: Path, options: str, flags: int) -> None:
    target.mkdir(parents=True, exist_ok=True)
    kernel.mount("tmpfs", str(target), "tmpfs", flags, options)


def _bind(source: str, target: Path, *, read_only: bool = True) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if Path(source).is_dir():
        target.mkdir(exist_ok=True)
    elif not target.exists():
        target.touch()
    kernel.mount(source, str(target), flags=kernel.BIND | kernel.RECURSIVE)
    if read_only:
        flags = kernel.REMOUNT | kernel.BIND | kernel.READ_ONLY | kernel.NO_SUID
        kernel.mount("none", str(target), flags=flags)
