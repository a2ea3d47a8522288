"""The shape of what skep answers: plain dictionaries with these keys.

A newer server may add keys; none of these is ever renamed. Durations are seconds, points in
time are ISO 8601 UTC texts.
"""

from __future__ import annotations

from typing import Any, Final, TypedDict

#: The statuses after which a call never changes again.
TERMINAL: Final = frozenset({"DONE", "FAILED", "TIMEOUT", "OOM", "LOST", "CANCELLED"})


class Reason(TypedDict):
    """Why a call did not end DONE."""

    code: str
    message: str


class Attempt(TypedDict):
    """One try of a call."""

    attempt: int
    node: str | None
    miniworker: str | None
    startedAt: str | None
    finishedAt: str | None
    status: str | None
    reason: Reason | None


class Call(TypedDict):
    """The record of a call."""

    funcName: str
    params: Any
    callNum: int
    status: str
    result: str
    id: str
    runtimeName: str
    revision: int
    project: str
    origin: str
    parent: int | None
    acceptedAt: str
    dispatchedAt: str | None
    startedAt: str | None
    finishedAt: str | None
    duration: float | None
    node: str | None
    miniworker: str | None
    start: str | None
    attempts: list[Attempt]
    peakMemory: int | None
    reason: Reason | None
    logBytesOmitted: int
    resultType: str
    resultEncoding: str | None


class Runtime(TypedDict):
    """A registered runtime."""

    name: str
    image: str
    path: str
    dependencies: str
    run: str
    contract: str
    id: str
    revision: int


class Package(TypedDict):
    """An uploaded archive."""

    sha256: str
    size: int
    originalname: str


class Function(TypedDict):
    """A registered function."""

    functionName: str
    runtimeName: str
    id: str
    revision: int
    package: Package | None
    timeout: float
    memory: int
    idempotent: bool


class Worker(TypedDict):
    """A node's worker, as the api sees it."""

    name: str
    node: str
    pid: int
    state: str
    slots: int
    running: int
    sandbox: str
    isolation: str
    lastSeen: str
    warm: Any


class Logs(TypedDict):
    """What a call printed beside its result; ``omitted`` counts the bytes left out."""

    stdout: str
    stderr: str
    omitted: int


class Queue(TypedDict):
    """What waits and what runs of one revision of a function."""

    functionName: str
    revision: int
    queued: int
    running: int


class Health(TypedDict):
    """That the api lives."""

    status: str
    version: str
    pid: int
