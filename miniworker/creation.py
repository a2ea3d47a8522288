"""What the engine is asked for when a sandbox is made: pure, a plan in, the API's options out.

Every container has the least that its plan allows: no capability, no new privilege, a root
that cannot be written, an unprivileged user, limits on memory, processes and cpu, and no
network unless it is asked for (docs/decisions.md has what each of these costs).
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from miniworker.layout import PACKAGES, SHARED_MEMORY, STAND_IN
from miniworker.rlimits import BUILD_MEMORY, LEAST_MEMORY, MIB, OPEN_FILES, PROCESSES
from miniworker.sandbox import SOCKET_NAME
from wire.models import Spec

#: Who a sandbox is where the image only says root, or nothing.
NOBODY: Final = (65532, 65532)
SOCKETS: Final = "/skep/sock"
AGENTS: Final = "/skep/agents"
BUNDLES: Final = "/skep/bundles"
TMP: Final = "/tmp"  # noqa: S108 - the container's own
LEAST_TMPFS: Final = 16 * MIB
#: Against 1024 of everything else on the host.
CPU_SHARES: Final = 256
NANO: Final = 1_000_000_000
#: What an agent prints is read when it never got ready, and at no other time.
LOG_BYTES: Final = "64k"
#: Where no runtime's path can be: a container would not start, or not be the image any more.
WHOLE: Final = frozenset({"proc", "sys", "dev", "skep"})
ALONE: Final = frozenset(
    {"tmp", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "var", "run", "opt"}
)
#: Of a function's environment, what its agent has too: a call that differs in what an
#: interpreter reads at its start could not be forked from it.
OF_AGENT: Final = ("PATH", "LANG", "HOME", "TMPDIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One sandbox as the engine has to know it: paths are those of the engine's host."""

    spec: Spec
    build: bool
    #: The first process and its arguments.
    program: tuple[str, ...]
    network: str
    #: (uid, gid) of its processes.
    user: tuple[int, int]
    volumes: tuple[str, ...]
    labels: Mapping[str, str]
    #: What a function's environment begins with.
    env: Mapping[str, str]
    #: (source, target) by what may be done there.
    shown: tuple[tuple[str, str], ...]
    writable: tuple[tuple[str, str], ...]


def path_inside(path: str) -> str:
    """Return the runtime's path if a container can have it, else what stands in for it."""
    clean = "/" + posixpath.normpath(path).lstrip("/")
    first, _, rest = clean[1:].partition("/")
    if not path.startswith("/") or not first or first in WHOLE:
        return STAND_IN
    return STAND_IN if first in ALONE and not rest else clean


def program(agent: str = "") -> tuple[str, ...]:
    """Return the first process of a sandbox: an agent that is a program, else python's."""
    own = (f"{AGENTS}/{agent}",) if agent else ("python3", f"{AGENTS}/python.py")
    return (*own, f"{SOCKETS}/{SOCKET_NAME}")


def environment(path: str, image: Mapping[str, str]) -> dict[str, str]:
    """Return what a function's environment begins with: the image's own, and the folders."""
    packages = f"{path}/{PACKAGES}"
    programs = image.get("PATH") or "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return {
        **image,
        "PATH": f"{packages}/bin:{programs}",
        "LANG": image.get("LANG", "C.UTF-8"),
        "HOME": TMP,
        "TMPDIR": TMP,
        "USER": "skep",
        "LOGNAME": "skep",
        "PIP_TARGET": packages,
        "PYTHONPATH": packages,
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_NO_CACHE_DIR": "1",
    }


def body(order: Order) -> dict[str, Any]:
    """Return the options of one container."""
    uid, gid = order.user
    return {
        "Image": order.spec.runtime.image,
        # Instead of the image's own, which would take the agent for its argument.
        "Entrypoint": list(order.program),
        "Cmd": [],
        "WorkingDir": "/",
        "Env": [f"{name}={order.env[name]}" for name in OF_AGENT],
        "User": f"{uid}:{gid}",
        "Labels": dict(order.labels),
        # With a namespace alone the engine would still set one up: 100 ms of a start.
        "NetworkDisabled": not order.network,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host(order),
    }


def _host(order: Order) -> dict[str, Any]:
    memory = memory_of(order)
    return {
        **confined(memory, None if order.build else order.spec.function.cpu, order.network),
        "ReadonlyRootfs": True,
        "Tmpfs": _in_memory(order, max(memory // 2, LEAST_TMPFS)),
        "Mounts": [
            *(_mount(source, target, read_only=True) for source, target in order.shown),
            *(_mount(source, target, read_only=False) for source, target in order.writable),
        ],
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": LOG_BYTES, "max-file": "1"},
        },
    }


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
    bound = {target for _, target in (*order.shown, *order.writable)}
    return {place: options for place, options in places.items() if place not in bound}


def _mount(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
