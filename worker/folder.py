"""A node's folder: who it is, under a lock; its cache; and what an earlier life left.

``DIR/nodes/NAME`` stays from life to life, ``DIR/run/NAME`` is of one life only: sockets and
the folders of miniworkers. Paths are used as given, mostly relative, for a socket's may not
be longer than 108 bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from pathlib import Path

from wire.durable import make_folder, sync_names
from wire.errors import Conflict

#: Folders that are removed by who made them, a moment later: trials of what confines a sandbox
#: and reaches a container, and what is not yet in its place.
_BRIEF = ("probe-*", "proof-*", "half-*")
#: Longer names would not leave enough of the 108 bytes of a socket's path.
_SHORT = 24


class NodeFolder:
    """The places of one node; ``open`` takes the lock and cleans up."""

    def __init__(self, data: Path, name: str, boot: str, installation: str = "") -> None:
        self.root = data / "nodes" / name
        self.packages = self.root / "packages"
        self.bundles = self.root / "bundles"
        #: A file here says that the bundle of its name is whole.
        self.whole = self.root / "whole"
        self.node_id = ""
        #: Shared by all nodes of one data folder, or by those that are told the same: whose the
        #: containers on an engine are.
        self.installation = installation
        self._data = data
        self._life = data / "run" / _short(name)
        self.run = self._life / boot[:8]
        self._name = name
        self._lock = -1

    def __repr__(self) -> str:
        return f"<NodeFolder {self.root}>"

    @property
    def endpoint(self) -> str:
        """Return where miniworkers find this worker."""
        return f"ipc://{self.run}/w/s"

    def miniworker(self, name: str) -> str:
        """Return the folder of one miniworker."""
        return str(self.run / name)

    def open(self) -> None:
        """Lock the folder, find or make the node's id, remove leavings.

        Raises:
            Conflict: another living worker has this folder.
        """
        for folder in (self.root, self.packages, self.bundles, self.whole):
            make_folder(folder)
        # Sandboxes of other users pass through, but may not list what there is.
        self.root.chmod(0o711)
        self._take_lock()
        self.bundles.chmod(0o711)
        self.node_id = _made_once(self.root / "id")
        self.installation = self.installation or _made_once(self._data / "installation")
        self._sweep()
        # Nor may one that runs as this very user, who has to be able to make more of them.
        self.bundles.chmod(0o111 if os.geteuid() == 0 else 0o311)
        (self.run / "w").mkdir(parents=True, mode=0o700)

    def close(self) -> None:
        """Remove what was of this life, then give up the lock."""
        if self._lock < 0:
            return
        shutil.rmtree(self._life, ignore_errors=True)
        # Its owner may want to remove it.
        self.bundles.chmod(0o711)
        os.close(self._lock)
        self._lock = -1

    def _take_lock(self) -> None:
        lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise Conflict(
                f"another worker named {self._name!r} runs on {self.root}",
                hint="stop it, or choose another --name or --data",
            ) from error
        self._lock = lock

    def _sweep(self) -> None:
        """Remove what earlier lives were killed over: sockets, trials, what is half-made."""
        shutil.rmtree(self._life, ignore_errors=True)
        for place in (self.root, self.root / "docker", self.root / "tools"):
            for kind in _BRIEF:
                for folder in place.glob(kind):
                    shutil.rmtree(folder, ignore_errors=True)
        for bundle in self.bundles.iterdir():
            if not (self.whole / bundle.name).exists():
                shutil.rmtree(bundle, ignore_errors=True)
        for part in self.packages.glob("*.part"):
            part.unlink()


def _made_once(path: Path) -> str:
    """Return the random word in a file; of several processes that make it one is first.

    It is durable before anybody hears it: who comes back under another name is a stranger.
    """
    if not path.exists():
        temp = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        with temp.open("w") as file:
            file.write(secrets.token_hex(16))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            # Unlike a rename, this never replaces what another has read already.
            path.hardlink_to(temp)
        temp.unlink()
        sync_names(path.parent)
    return path.read_text().strip()


def _short(name: str) -> str:
    if len(name) <= _SHORT:
        return name
    return f"{name[:12]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
