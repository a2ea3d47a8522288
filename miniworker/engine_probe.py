"""What the Docker engine of this host is, found out by asking it, as settings for Spawn."""

from __future__ import annotations

import contextlib
import py_compile
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, Final

import msgspec

from miniworker import tools
from miniworker.engine import About, Engine, EngineRefused, Mount
from miniworker.engine_settings import Settings
from miniworker.origins import Origins
from miniworker.proving import Prover, Wanted
from wire.models import Runtime

#: An engine that takes longer to say what it is does not answer.
ASK_S: Final = 10.0
DEFAULT_NETWORK: Final = "bridge"
_OWN_CONTAINER: Final = re.compile(r"/containers/([0-9a-f]{64})/hostname ")
ISOLATION: Final = (
    "a container for each sandbox, an unprivileged user, its root read-only, no capabilities, "
    "its own processes, limits on memory, processes, files and cpu, and no network unless the "
    "function asks for it (Docker {version} at {address})"
)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whose the containers will be."""

    installation: str
    node: str
    boot: str
    bundles: str


def probe(
    folder: Path,
    identity: Identity,
    network: str = "",
    more_runtimes: Sequence[Path] = (),
    transport: Wanted = "auto",
) -> dict[str, Any]:
    """Return the driver, what it confines, and the settings for Spawn.

    Raises:
        EngineAway: no engine answers here.
        NoSandbox: one does, but nothing gets into its containers.
    """
    place = folder.absolute() / "docker"
    _lend_agents(place, more_runtimes)
    engine = Engine(version="auto", wait_s=ASK_S)
    try:
        about = engine.about()
        draft = _draft(engine, about, identity, place, network)
        images = tuple(_images(engine, more_runtimes))
        choice = Prover(engine, draft, _own_mounts(engine), images).choose(transport)
    finally:
        engine.close()
    if identity.bundles:
        Origins(place).forget_others(Path(identity.bundles))
    return {
        "driver": "docker",
        "level": "container",
        "isolation": f"{_isolation(about, engine.address)}; {choice.words}",
        "settings": msgspec.to_builtins(choice.settings),
    }


def _draft(
    engine: Engine, about: About, identity: Identity, place: Path, network: str
) -> Settings:
    return Settings(
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
    )


def _images(engine: Engine, more_runtimes: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield image and agent of the runtimes in folders, of those that the engine has."""
    for folder in (tools.DATA, *more_runtimes):
        for file in sorted(folder.glob("*/runtime.json")):
            with contextlib.suppress(OSError, msgspec.MsgspecError, EngineRefused):
                runtime = msgspec.json.decode(file.read_bytes(), type=Runtime)
                if runtime.contract == "agent":
                    engine.image(runtime.image)
                    yield runtime.image, runtime.agent


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


def _own_mounts(engine: Engine) -> dict[str, Mount]:
    """Return where this process's folders are on the engine's host, if it is in a container."""
    found = _OWN_CONTAINER.search(Path("/proc/self/mountinfo").read_text())
    if found is None:
        return {}
    try:
        return engine.mounts(found[1])
    except EngineRefused:
        # The container is another engine's.
        return {}


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
