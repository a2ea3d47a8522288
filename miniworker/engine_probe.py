"""What the Docker engine of this host is, found out by asking it, as settings for Spawn."""

from __future__ import annotations

import py_compile
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, Final

import msgspec

from miniworker import tools
from miniworker.container import Settings
from miniworker.engine import About, Engine, EngineRefused
from miniworker.origins import Origins
from miniworker.sandbox import NoSandbox
from miniworker.sharing import host_path

#: An engine that takes longer to say what it is does not answer.
ASK_S: Final = 10.0
DEFAULT_NETWORK: Final = "bridge"
_OWN_CONTAINER: Final = re.compile(r"/containers/([0-9a-f]{64})/hostname ")
ISOLATION: Final = (
    "a container for each sandbox, an unprivileged user, its root read-only, no capabilities, "
    "its own processes, limits on memory, processes, files and cpu, and no network unless the "
    "function asks for it (Docker {version} at {address})"
)


NOT_SEEN: Final = "the Docker engine at {address} does not see this worker's files"
NOT_SEEN_HINT: Final = (
    "keep --data in a folder that the engine's host has under the same path, or that is "
    "mounted from it into this worker's own container"
)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whose the containers will be."""

    installation: str
    node: str
    boot: str
    bundles: str


def probe(
    folder: Path, identity: Identity, network: str = "", more_runtimes: Sequence[Path] = ()
) -> dict[str, Any]:
    """Return the driver, what it confines, and the settings for Spawn.

    Raises:
        EngineAway: no engine answers here.
        NoSandbox: one does, but it has another file system.
    """
    place = folder.absolute() / "docker"
    _lend_agents(place, more_runtimes)
    engine = Engine(version="auto", wait_s=ASK_S)
    try:
        about = engine.about()
        mounts = _own_mounts(engine)
        if not _sees(engine, place, mounts):
            raise NoSandbox(NOT_SEEN.format(address=engine.address), hint=NOT_SEEN_HINT)
    finally:
        engine.close()
    if identity.bundles:
        Origins(place).forget_others(Path(identity.bundles))
    settings = Settings(
        engine=engine.address,
        version=engine.version,
        architecture=about.architecture,
        cgroup=about.cgroup_version,
        installation=identity.installation,
        node=identity.node,
        boot=identity.boot,
        folder=str(place),
        bundles=identity.bundles,
        network=network or DEFAULT_NETWORK,
        mounts=msgspec.json.encode(mounts).decode(),
    )
    return {
        "driver": "docker",
        "level": "container",
        "isolation": _isolation(about, engine.address),
        "settings": msgspec.to_builtins(settings),
    }


def image_id(name: str) -> str:
    """Return the id of an image that the engine has.

    Raises:
        EngineAway: no engine answers here.
        EngineRefused: it has none of that name.
    """
    engine = Engine(version="auto", wait_s=ASK_S)
    try:
        return engine.image(name).id
    finally:
        engine.close()


def _isolation(about: About, address: str) -> str:
    return ISOLATION.format(version=about.version, address=address)


def _own_mounts(engine: Engine) -> dict[str, str]:
    """Return where this process's folders are on the engine's host, if it is in a container."""
    found = _OWN_CONTAINER.search(Path("/proc/self/mountinfo").read_text())
    if found is None:
        return {}
    try:
        return engine.mounts(found[1])
    except EngineRefused:
        # The container is another engine's.
        return {}


def _sees(engine: Engine, place: Path, mounts: Mapping[str, str]) -> bool:
    """Return whether the engine's host has a folder that is made here and now.

    An engine looks at the mounts of a container before it looks for its image: one that is
    not there shows the one without anything being made.
    """
    proof = Path(tempfile.mkdtemp(prefix="proof-", dir=place))
    source = host_path(str(proof), mounts)
    mount = {"Type": "bind", "Source": source, "Target": "/proof", "ReadOnly": True}
    body = {"Image": f"skep-proof-{secrets.token_hex(8)}", "HostConfig": {"Mounts": [mount]}}
    try:
        container = engine.create(f"skep-proof-{secrets.token_hex(8)}", body)
    except EngineRefused as error:
        return "bind source path" not in error.message.lower()
    else:
        engine.remove(container)
        return True
    finally:
        proof.rmdir()


def _lend_agents(place: Path, more_runtimes: Sequence[Path]) -> None:
    """Put the agents where containers are shown them; the users of images are noted beside."""
    (place / "users").mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix="half-", dir=place))
    module = half / "skep_agent.py"
    shutil.copyfile(tools.DATA / "python" / "agent.py", module)
    # A program is compiled at each start, a module once: here, for the Pythons that read
    # what this one writes. A container could not keep what it compiles.
    cached = cache_from_source(str(module))
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(module), cached, doraise=True, invalidation_mode=unchecked)
    (half / "python.py").write_text(tools.RUN_AGENT)
    for path in (half, *half.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for name, source in tools.programs(more_runtimes).items():
        # Started by its own #! line, with what the image has.
        shutil.copyfile(source, half / name)
        (half / name).chmod(0o755)
    shutil.rmtree(place / "agents", ignore_errors=True)
    half.rename(place / "agents")
