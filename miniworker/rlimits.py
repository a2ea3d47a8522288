"""The limits of resources that every sandbox has, at every level."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Final

from miniworker.sandbox import Plan

NICE: Final = 10
MIB: Final = 1 << 20
#: Below this an interpreter does not start.
LEAST_MEMORY: Final = 32 * MIB
#: Installers are not the function: compilers and resolvers need their own room.
BUILD_MEMORY: Final = 4096 * MIB
FILE_BYTES: Final = 1024 * MIB
BUILD_FILE_BYTES: Final = 8192 * MIB
OPEN_FILES: Final = 1024
#: With a uid of its own only the sandbox's processes count; else all of that user's do.
PROCESSES: Final = 256
SHARED_PROCESSES: Final = 4096


def of(plan: Plan, *, has_uid: bool) -> Mapping[int, int]:
    """Return the limits of a plan's sandbox."""
    memory = max(plan.spec.function.memory * MIB, LEAST_MEMORY)
    return {
        # Not RLIMIT_AS, which counts what is only reserved: node would not start.
        resource.RLIMIT_DATA: BUILD_MEMORY if plan.build else memory,
        resource.RLIMIT_FSIZE: BUILD_FILE_BYTES if plan.build else FILE_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: PROCESSES if has_uid else SHARED_PROCESSES,
        resource.RLIMIT_CORE: 0,
    }


def impose(limits: Mapping[int, int]) -> None:
    """Set them for this process and all that come of it; never above what is allowed."""
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))
