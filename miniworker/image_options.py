"""What the engine is asked for when a container of an image function is made: pure.

The container is confined as an agent's is, but for three things, all of which the image
decides: its user, its first process, and that its root can be written. The layer that takes
what is written goes with the call, and is limited where the engine's storage can limit it.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from miniworker import creation
from miniworker.rlimits import LEAST_MEMORY, MIB
from wire.models import Spec

#: How a container's call may have ended; none is DONE.
Code = Literal["", "exit_code", "signal", "result_too_large", "command_not_found"]
#: Larger params are on stdin only: exec refuses more than 128 KiB in one variable.
PARAMS_IN_ENV_BYTES: Final = 64 << 10
#: Of the writable layer.
DISK: Final = "4G"
#: What an engine says whose storage cannot limit a layer.
NO_QUOTA: Final = ("storage-opt", "storage opt", "pquota", "quota")
#: As a shell says that a program was ended by a signal: this and its number.
_SIGNALLED: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """What a container is given beside its image: a bundle that serves."""

    #: Of the bundle, on the engine's host.
    source: str
    path: str
    #: The command that starts the server; empty for the image's own.
    run: str
    user: str
    #: What its environment begins with.
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOrder:
    """One container of an image function."""

    spec: Spec
    arguments: tuple[str, ...]
    #: None: they come by another way.
    params: bytes | None
    #: What the call adds to the environment.
    env: Mapping[str, str]
    network: str
    labels: Mapping[str, str]
    #: Whether the engine can limit the writable layer.
    quota: bool
    code: Bundled | None = None


def body(order: ImageOrder) -> dict[str, Any]:
    """Return the options of one container."""
    function = order.spec.function
    memory = max(function.memory * MIB, LEAST_MEMORY)
    return {
        "Image": order.spec.runtime.image,
        # Without arguments the image's own command runs, as with docker run.
        **({"Cmd": list(order.arguments)} if order.arguments else {}),
        "Env": [f"{name}={value}" for name, value in environment(order).items()],
        "Labels": dict(order.labels),
        **creation.ATTACHED,
        "NetworkDisabled": not order.network,
        "Healthcheck": {"Test": ["NONE"]},
        **(_starting(order.code) if order.code else {}),
        "HostConfig": {
            **creation.confined(memory, function.cpu, order.network),
            **({"StorageOpt": {"size": DISK}} if order.quota else {}),
            **(_showing(order.code) if order.code else {}),
            # What it prints is read as it comes; a second copy would fill a disk.
            "LogConfig": creation.NO_LOG,
        },
    }


def _starting(code: Bundled) -> dict[str, Any]:
    command = {"Entrypoint": ["/bin/sh", "-c", code.run], "Cmd": []} if code.run else {}
    return {"WorkingDir": code.path, "User": code.user, **command}


def _showing(code: Bundled) -> dict[str, Any]:
    return {"Mounts": [creation.mount(code.source, code.path, read_only=True)]}


def environment(order: ImageOrder) -> dict[str, str]:
    """Return what is added to the image's own environment."""
    function = order.spec.function
    env = {
        **(order.code.env if order.code else {}),
        **order.spec.runtime.env,
        **function.env,
        "SKEP_FUNCTION": function.function_name,
        "SKEP_REVISION": str(function.revision),
        **order.env,
    }
    if order.params is None:
        return env
    if len(order.params) <= PARAMS_IN_ENV_BYTES and b"\0" not in order.params:
        env["SKEP_PARAMS"] = order.params.decode(errors="replace")
    return env


def is_without_quota(said: str) -> bool:
    """Return whether an engine complains only of the limit of the writable layer."""
    return any(words in said.lower() for words in NO_QUOTA)


def verdict(exit_code: int, printed: int, limit: int, *, is_whole: bool) -> tuple[Code, str]:
    """Return code and message of a container that ended; no code is DONE."""
    if exit_code > _SIGNALLED:
        try:
            name = signal.Signals(exit_code - _SIGNALLED).name
        except ValueError:
            pass
        else:
            return "signal", f"it was ended by the signal {name} (status {exit_code})"
    if exit_code != 0:
        return "exit_code", f"it exited with the code {exit_code}"
    if not is_whole:
        text = f"it printed {printed} bytes to stdout; a result may have {limit}"
        return "result_too_large", text
    return "", ""
