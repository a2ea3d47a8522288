"""What of a node's folder is whole, who uses it, and what goes when there is too much.

A bundle or layer is a folder under ``bundles`` with a name nobody can guess; it is whole when
a marker of that name says so. The marker's time of change is that of its last use.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from worker.folder import NodeFolder


class Marker(msgspec.Struct, frozen=True):
    """What the marker of a whole bundle says."""

    key: str
    #: Of its own; what it shares with its layer counts there.
    bytes: int
    #: The key of the layer that was put into it.
    layer: str = ""


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
        self._whole = _read_markers(folder)
        self._layers = {name: marker.layer for name, marker in _markers(folder) if marker.layer}
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
        """Say, durably, that the folder of this name is whole."""
        temp = self._folder.whole / f"{name}.new"
        temp.write_bytes(msgspec.json.encode(marker))
        temp.rename(self._folder.whole / name)
        self._whole[marker.key] = name
        if marker.layer:
            self._layers[name] = marker.layer
            self.find(marker.layer)

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


def _read_markers(folder: NodeFolder) -> dict[str, str]:
    for path in folder.whole.iterdir():
        if path.suffix or not (folder.bundles / path.name).is_dir():
            path.unlink()
    return {marker.key: name for name, marker in _markers(folder)}


def _markers(folder: NodeFolder) -> Iterator[tuple[str, Marker]]:
    for path in folder.whole.iterdir():
        yield path.name, _marker(path)


def _plain(folder: Path) -> list[Path]:
    """Return the files of a folder that are not temporary."""
    return [path for path in folder.iterdir() if not path.suffix]


def _marker(path: Path) -> Marker:
    return msgspec.json.decode(path.read_bytes(), type=Marker)
