"""What the engine is asked for when a sandbox is made: pure, a plan in, the API's options out.

Every container has the least that its plan allows: no capability, no new privilege, a root
that cannot be written, an unprivileged user, limits on memory, processes and cpu, and no
network unless it is asked for (docs/decisions.md has what each of these costs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from miniworker.layout import SHARED_MEMORY
from miniworker.rlimits import BUILD_MEMORY, LEAST_MEMORY, MIB, OPEN_FILES, PROCESSES
from wire.inside import TMP, path_inside
from wire.models import Spec

#: Who a sandbox is where the image only says root, or nothing.
NOBODY: Final = (65532, 65532)
#: All that skep brings into a container.
OWN: Final = "/skep"
SOCKETS: Final = f"{OWN}/sock"
AGENTS: Final = f"{OWN}/agents"
BUNDLES: Final = f"{OWN}/bundles"
LEAST_TMPFS: Final = 16 * MIB
#: Against 1024 of everything else on the host.
CPU_SHARES: Final = 256
NANO: Final = 1_000_000_000
#: What an agent prints is read when it never got ready, and at no other time.
LOG_BYTES: Final = "64k"
FEW_LINES: Final[dict[str, Any]] = {
    "Type": "json-file",
    "Config": {"max-size": LOG_BYTES, "max-file": "1"},
}
NO_LOG: Final[dict[str, Any]] = {"Type": "none", "Config": {}}
#: Its stdin ends with whoever is attached, and with that an agent.
ATTACHED: Final[dict[str, Any]] = {
    "AttachStdin": True,
    "AttachStdout": True,
    "AttachStderr": True,
    "OpenStdin": True,
    "StdinOnce": True,
    "Tty": False,
}
#: Without a name it goes with its container.
OWN_VOLUME: Final[dict[str, Any]] = {
    "Type": "volume",
    "Target": OWN,
    "VolumeOptions": {"NoCopy": True},
}
#: Of a function's environment, what its agent has too: a call that differs in what an
#: interpreter reads at its start could not be forked from it.
OF_AGENT: Final = ("PATH", "LANG", "HOME", "TMPDIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How files and words get in and out: paths are those of the engine's host."""

    #: What the agent is told: where it shall connect.
    socket: str
    #: (source, target) by what may be done there.
    shown: tuple[tuple[str, str], ...] = ()
    writable: tuple[tuple[str, str], ...] = ()
    #: Whether its standard streams are the connection, and its files are unpacked in it.
    attached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One sandbox as the engine has to know it."""

    spec: Spec
    #: Of the runtime, or what the function is baked into.
    image: str
    build: bool
    #: The first process, to which the way to its miniworker is added.
    program: tuple[str, ...]
    network: str
    #: (uid, gid) of its processes.
    user: tuple[int, int]
    volumes: tuple[str, ...]
    labels: Mapping[str, str]
    #: What a function's environment begins with.
    env: Mapping[str, str]
    ways: Ways


def program(agent: str = "") -> tuple[str, ...]:
    """Return the first process of a sandbox: an agent that is a program, else python's."""
    return (f"{AGENTS}/{agent}",) if agent else ("python3", f"{AGENTS}/python.py")


def body(order: Order) -> dict[str, Any]:
    """Return the options of one container."""
    uid, gid = order.user
    return {
        "Image": order.image,
        # Instead of the image's own, which would take the agent for its argument.
        "Entrypoint": [*order.program, order.ways.socket],
        "Cmd": [],
        "WorkingDir": "/",
        "Env": [f"{name}={order.env[name]}" for name in OF_AGENT],
        "User": f"{uid}:{gid}",
        "Labels": dict(order.labels),
        # With a namespace alone the engine would still set one up: 100 ms of a start.
        "NetworkDisabled": not order.network,
        "Healthcheck": {"Test": ["NONE"]},
        **(ATTACHED if order.ways.attached else {}),
        "HostConfig": _host(order),
    }


def _host(order: Order) -> dict[str, Any]:
    memory = memory_of(order)
    return {
        **confined(memory, None if order.build else order.spec.function.cpu, order.network),
        # The engine unpacks nothing where it cannot write, and a build is fetched from there.
        "ReadonlyRootfs": not (order.ways.attached and order.build),
        "Tmpfs": _in_memory(order, max(memory // 2, LEAST_TMPFS)),
        "Mounts": _mounts(order),
        # What is said by stdio is no log.
        "LogConfig": NO_LOG if order.ways.attached else FEW_LINES,
    }


def _mounts(order: Order) -> list[dict[str, Any]]:
    if order.ways.attached:
        return [] if order.build else [OWN_VOLUME]
    return [
        *(mount(source, target, read_only=True) for source, target in order.ways.shown),
        *(mount(source, target, read_only=False) for source, target in order.ways.writable),
    ]


def confined(memory: int, cpu: float | None, network: str) -> dict[str, Any]:
    """Return what every container of user code is denied, whatever it is made for."""
    return {
        **({"NetworkMode": network} if network else {}),
        **({"NanoCpus": int(cpu * NANO)} if cpu else {}),
        "CpuShares": CPU_SHARES,
        "Memory": memory,
        # The two together: what is over the limit of memory is not let into swap.
        "MemorySwap": memory,
        "PidsLimit": PROCESSES,
        "Ulimits": [
            {"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ShmSize": SHARED_MEMORY,
    }


def memory_of(order: Order) -> int:
    """Return how much memory a sandbox may have, in bytes."""
    if order.build:
        return BUILD_MEMORY
    return max(order.spec.function.memory * MIB, LEAST_MEMORY)


def _in_memory(order: Order, size: int) -> dict[str, str]:
    """Return what is writable, limited in size, and gone with the container.

    Each may take half of the memory: who fills one hears of it, instead of being killed.
    """
    uid, gid = order.user
    common = f"rw,exec,nosuid,nodev,size={size}"
    own = f"{common},mode=0755,uid={uid},gid={gid}"
    # A volume that the image declares would be a folder of the host, of any size.
    places = dict.fromkeys(order.volumes, own)
    if not order.build:
        places |= {path_inside(order.spec.runtime.path): own, TMP: f"{common},mode=1777"}
    bound = {target for _, target in (*order.ways.shown, *order.ways.writable)}
    if order.ways.attached and order.build:
        # It is unpacked there before there is any memory to unpack it in.
        bound = {path_inside(order.spec.runtime.path)}
    return {place: options for place, options in places.items() if place not in bound}


def mount(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    """Return what shows a folder of the engine's host in a container."""
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
