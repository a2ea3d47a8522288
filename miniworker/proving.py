"""How files and words get into this engine's containers: tried in order, the first is taken.

What an engine sees of this node is asked without any image. Whether an agent can be met is
shown by a container, made as a miniworker makes one, where the engine has an image for it.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from miniworker.container import ContainerSandbox
from miniworker.engine import Engine, EngineRefused, Mount
from miniworker.engine_settings import Settings, Transport
from miniworker.probe import prove
from miniworker.sandbox import NoSandbox, Plan
from miniworker.sharing import host_path, mount_of
from miniworker.transports import TRANSPORTS
from wire.models import Function, Runtime, Spec

Wanted = Literal["auto", "mounts", "volumes", "stdio"]
NOT_SEEN: Final = "the Docker engine at {address} does not see this worker's files"
HINT: Final = (
    "keep --data in a folder that the engine's host has under the same path, or in one that "
    "this worker's own container has from there or from a volume; or say --transport stdio"
)
#: What the call of a proof prints.
PROOF: Final = b"42\n"


@dataclass(frozen=True, slots=True)
class Choice:
    """The settings with a transport, and why it is that one."""

    settings: Settings
    words: str


class Prover:
    """Tries them on one engine; ``images`` are (image, agent) that it has."""

    def __init__(
        self,
        engine: Engine,
        draft: Settings,
        own: Mapping[str, Mount],
        images: Sequence[tuple[str, str]],
    ) -> None:
        self._engine = engine
        self._own = own
        self._images = images
        sources = {target: mount.source for target, mount in own.items()}
        self._sources = sources
        mounts = msgspec.json.encode(sources).decode()
        self._draft = msgspec.structs.replace(draft, mounts=mounts)
        self._place = Path(draft.folder)

    def choose(self, wanted: Wanted) -> Choice:
        """Return the first that works, or else that nothing speaks against.

        Raises:
            NoSandbox: there is none; the message says why.
        """
        why_not: dict[str, str] = {}
        possible: list[Transport] = []
        for name in TRANSPORTS if wanted == "auto" else (wanted,):
            why = self._lacks(name)
            if not why:
                possible.append(name)
                why = self._unproved(name)
            if not why:
                return self._chosen(name, "a container has shown it", why_not)
            why_not[name] = why
        if not possible:
            raise NoSandbox("; ".join(dict.fromkeys(why_not.values())), hint=HINT)
        return self._chosen(
            possible[0], f"no container has shown it: {why_not.pop(possible[0])}", why_not
        )

    def _chosen(self, name: Transport, how: str, why_not: Mapping[str, str]) -> Choice:
        order = TRANSPORTS[: TRANSPORTS.index(name)]
        told = [f"not by {one}: {why_not[one]}" for one in order if one in why_not]
        words = "; ".join([f"reached by {name} ({how})", *told])
        return Choice(msgspec.structs.replace(self._draft, transport=name), words)

    def _lacks(self, name: Transport) -> str:
        """Return what is missing for this one that can be told without a container."""
        if name == "stdio":
            return self._engine.why_not_attached
        mount = mount_of(str(self._place), self._own)
        is_volume = mount is not None and self._own[mount].is_volume
        if name == "volumes" and not is_volume:
            return "this worker's --data is in no volume of the engine's"
        if name == "mounts" and is_volume:
            return "this worker's --data is in a volume"
        return "" if self._is_seen() else NOT_SEEN.format(address=self._engine.address)

    def _is_seen(self) -> bool:
        """Return whether the engine's host has a folder that is made here and now.

        An engine looks at the mounts of a container before it looks for its image: one that
        is not there shows the one without anything being made.
        """
        proof = Path(tempfile.mkdtemp(prefix="proof-", dir=self._place))
        source = host_path(str(proof), self._sources)
        mount = {"Type": "bind", "Source": source, "Target": "/proof", "ReadOnly": True}
        name = f"skep-proof-{secrets.token_hex(8)}"
        body = {"Image": name, "HostConfig": {"Mounts": [mount]}}
        try:
            container = self._engine.create(name, body)
        except EngineRefused as error:
            return "bind source path" not in error.message.lower()
        else:
            self._engine.remove(container)
            return True
        finally:
            proof.rmdir()

    def _unproved(self, name: Transport) -> str:
        """Return why no container has shown that this one works; empty if one has."""
        settings = msgspec.structs.replace(self._draft, transport=name)
        why = "the engine has no image of a known runtime yet"
        for image, spoken in self._images:
            why = self._try(settings, image, spoken)
            if not why:
                return ""
        return why

    def _try(self, settings: Settings, image: str, spoken: str) -> str:
        folder = Path(tempfile.mkdtemp(prefix="proof-", dir=self._place.parent))
        try:
            folder.chmod(0o711)
            plan = _plan(folder, image, spoken)
            given: dict[str, str] = msgspec.to_builtins(settings)
            return prove(ContainerSandbox, plan, given, "cat proof", PROOF) or ""
        except NoSandbox as error:
            return error.message
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _plan(folder: Path, image: str, spoken: str) -> Plan:
    bundle = folder / "bundle"
    bundle.mkdir(mode=0o755)
    bundle.chmod(0o755)
    (bundle / "proof").write_bytes(PROOF)
    (bundle / "proof").chmod(0o644)
    function = Function(function_name="probe", runtime_name="probe")
    runtime = Runtime(name="probe", image=image, path="/ws", agent=spoken)
    spec = Spec(function=function, runtime=runtime)
    return Plan(spec=spec, bundle=bundle, folder=folder / "sandbox")
