"""What of a node's folder is whole, who uses it, and what goes when there is too much.

A bundle or layer is a folder under ``bundles`` with a name nobody can guess; it is whole when
a marker of that name says so. The marker's time of change is that of its last use.

A power cut may leave a marker and lose what it speaks for, since installers do not wait for
the disk. So a marker names the boot of the machine in which it was made until all is known to
be on the disk, and after another boot it counts for nothing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from worker.folder import NodeFolder
from worker.trees import sync

#: How long the kernel is left to write by itself, which it does with what is half as old.
SETTLE_S: Final = 60.0
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class Marker(msgspec.Struct, frozen=True):
    """What the marker of a whole bundle says."""

    key: str
    #: Of its own; what it shares with its layer counts there.
    bytes: int
    #: The key of the layer that was put into it.
    layer: str = ""
    #: Of the machine, while a power cut could still take what this speaks for.
    boot: str = ""


class Cache:
    """The packages, bundles and layers of one node."""

    def __init__(
        self, folder: NodeFolder, keep_bytes: int, on_evicted: Callable[[str], None]
    ) -> None:
        """Know what is there; ``on_evicted`` hears the key of each bundle that goes."""
        self._folder = folder
        self._keep_bytes = keep_bytes
        self._on_evicted = on_evicted
        #: Packages, bundles and layers removed to make room.
        self.evicted = 0
        self._boot = _BOOT.read_text().strip()
        _drop_markers(folder, self._boot)
        markers = dict(_markers(folder))
        self._whole = {marker.key: name for name, marker in markers.items()}
        self._layers = {name: marker.layer for name, marker in markers.items() if marker.layer}
        #: Whose markers name this boot; and whether somebody is about to settle them.
        self._unsettled = {name for name, marker in markers.items() if marker.boot}
        self._is_settling = False
        #: Packages that bundles are being made of.
        self._reading: list[str] = []
        self._users: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Cache of {len(self._whole)} whole, {len(self._users)} users>"

    def __len__(self) -> int:
        return len(self._whole)

    def use(self, user: str, key: str) -> None:
        """Count a user of what is, or will be, of this key."""
        self._users[user] = key

    def release(self, user: str) -> bool:
        """Count a user no more; return whether it was one."""
        return self._users.pop(user, None) is not None

    def find(self, key: str) -> Path | None:
        """Return the folder of a key if it is whole; this is a use of it."""
        name = self._whole.get(key)
        if name is None:
            return None
        (self._folder.whole / name).touch()
        if (layer := self._layers.get(name)) is not None:
            # After the bundle's, so that a layer is never older than what is made of it.
            self.find(layer)
        return self._folder.bundles / name

    @contextmanager
    def reading(self, package: str) -> Iterator[None]:
        """Keep a package while it is read."""
        self._reading.append(package)
        try:
            yield
        finally:
            self._reading.remove(package)

    def keep(self, name: str, marker: Marker) -> None:
        """Say that the folder of this name is whole; ``settle`` makes that durable."""
        self._write(name, msgspec.structs.replace(marker, boot=self._boot))
        self._unsettled.add(name)
        self._whole[marker.key] = name
        if marker.layer:
            self._layers[name] = marker.layer
            self.find(marker.layer)

    async def settle(self, after_s: float = SETTLE_S) -> None:
        """Have what was kept on the disk, and say so; once for all that are kept meanwhile."""
        if self._is_settling:
            return
        self._is_settling = True
        try:
            while self._unsettled:
                await asyncio.sleep(after_s)
                await self._settle()
        finally:
            self._is_settling = False

    async def _settle(self) -> None:
        names, self._unsettled = self._unsettled, set()
        await asyncio.to_thread(sync, self._folder.root)
        for path in (self._folder.whole / name for name in names):
            if path.exists():
                used = path.stat().st_mtime_ns
                self._write(path.name, msgspec.structs.replace(_marker(path), boot=""))
                os.utime(path, ns=(used, used))

    def _write(self, name: str, marker: Marker) -> None:
        temp = self._folder.whole / f"{name}.new"
        temp.write_bytes(msgspec.json.encode(marker))
        temp.rename(self._folder.whole / name)

    def forget(self, name: str) -> None:
        """Hide a bundle with the layer in it, and all that the layer was put into.

        Somebody may use them, so their folders stay: without their markers they are removed
        when the node starts the next time.
        """
        layer = self._layers.get(name, "")
        names = {name} | {one for one, key in self._layers.items() if layer and key == layer}
        if layer in self._whole:
            names.add(self._whole[layer])
        for path in (self._folder.whole / one for one in names):
            if path.exists():
                self._hide(path)

    async def trim(self, keep_bytes: int | None = None) -> None:
        """Remove what was unused longest until the rest is small enough.

        What goes is chosen and hidden at once, on the loop: nobody can acquire it meanwhile.
        """
        limit = self._keep_bytes if keep_bytes is None else keep_bytes
        sizes = {path: path.stat().st_size for path in _plain(self._folder.packages)}
        sizes |= {path: _marker(path).bytes for path in _plain(self._folder.whole)}
        total = sum(sizes.values())
        for path in sorted(sizes, key=self._age):
            if total <= limit:
                return
            if path.name not in self._in_use() and path.exists():
                total -= sizes[path]
                await self._remove(path)

    def _age(self, path: Path) -> tuple[int, bool]:
        is_layer = path.parent == self._folder.whole and path.name not in self._layers
        return path.stat().st_mtime_ns, is_layer

    def _in_use(self) -> set[str | None]:
        keys = {*self._users.values(), *self._layers.values()}
        return {*map(self._whole.get, keys), *self._reading}

    async def _remove(self, path: Path) -> None:
        self.evicted += 1
        self._hide(path)
        bundle = self._folder.bundles / path.name
        await asyncio.to_thread(shutil.rmtree, bundle, ignore_errors=True)

    def _hide(self, path: Path) -> None:
        """Let nobody find this any more; without its marker a bundle does not exist."""
        if path.parent == self._folder.whole:
            key = _marker(path).key
            self._whole.pop(key, None)
            self._layers.pop(path.name, None)
            self._on_evicted(key)
        path.unlink()


def cached_bytes(folder: NodeFolder) -> dict[str, int]:
    """Return what lies in the cache; from any thread, while it changes."""
    packages = bundles = 0
    for path in _plain(folder.packages):
        with suppress(FileNotFoundError):
            packages += path.stat().st_size
    for path in _plain(folder.whole):
        with suppress(FileNotFoundError):
            bundles += _marker(path).bytes
    return {"packages": packages, "bundles": bundles}


def _drop_markers(folder: NodeFolder, boot: str) -> None:
    """Remove the markers that speak for nothing, in this boot of the machine."""
    for path in folder.whole.iterdir():
        is_there = (folder.bundles / path.name).is_dir()
        if path.suffix or not is_there or not _is_trusted(path, boot):
            path.unlink()


def _markers(folder: NodeFolder) -> Iterator[tuple[str, Marker]]:
    for path in folder.whole.iterdir():
        yield path.name, _marker(path)


def _plain(folder: Path) -> list[Path]:
    """Return the files of a folder that are not temporary."""
    return [path for path in folder.iterdir() if not path.suffix]


def _is_trusted(path: Path, boot: str) -> bool:
    """Return whether a marker says anything that no power cut can have undone."""
    try:
        return _marker(path).boot in ("", boot)
    except msgspec.MsgspecError:
        # One that a power cut emptied.
        return False


def _marker(path: Path) -> Marker:
    return msgspec.json.decode(path.read_bytes(), type=Marker)
