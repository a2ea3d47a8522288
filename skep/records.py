"""The shape of what skep answers: plain dictionaries with these keys.

A newer server may add keys; none of these is ever renamed. Durations are seconds unless the
text says otherwise, sizes bytes, points in time ISO 8601 UTC texts with milliseconds.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NotRequired, TypedDict

#: The statuses after which a call never changes again.
TERMINAL: Final = frozenset({"DONE", "FAILED", "TIMEOUT", "OOM", "LOST", "CANCELLED"})

Status = Literal["PENDING", "RUNNING", "DONE", "FAILED", "TIMEOUT", "OOM", "LOST", "CANCELLED"]


Policy = Literal["warm-first", "round-robin", "least-loaded", "random"]


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
    #: How its sandbox was come by: ``idle``, ``ahead`` or ``cold``.
    way: NotRequired[str | None]
    #: Why so, and why there, in plain words.
    why: NotRequired[str]


class Call(TypedDict):
    """The record of a call."""

    funcName: str
    params: Any
    callNum: int
    status: Status
    #: Always text; ``resultType`` and ``resultEncoding`` say what it stands for.
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
    start: Literal["cold", "warm"] | None
    attempts: list[Attempt]
    peakMemory: int | None
    reason: Reason | None
    logBytesOmitted: int
    resultType: Literal["text", "json"]
    resultEncoding: Literal["base64"] | None
    #: The limits that it runs under: seconds, seconds, MiB.
    timeout: NotRequired[float | None]
    maxWait: NotRequired[float | None]
    memory: NotRequired[int | None]
    #: Milliseconds by stage: queued, fetch, install, sandbox, load, run.
    stages: NotRequired[dict[str, float]]
    #: The trace that the caller named, passed on to the function.
    traceparent: NotRequired[str | None]


class Runtime(TypedDict):
    """A registered runtime."""

    name: str
    image: str
    path: str
    dependencies: str
    run: str
    contract: str
    agent: str
    env: dict[str, str]
    network: bool
    description: str
    id: str
    revision: int
    project: str
    createdAt: str
    updatedAt: str


class Package(TypedDict):
    """An uploaded archive."""

    sha256: str
    size: int
    originalname: str


class Function(TypedDict):
    """One revision of a registered function."""

    functionName: str
    runtimeName: str
    id: str
    revision: int
    package: Package | None
    image: str | None
    #: Of an image: run for each call, or asked as a server; None of code.
    contract: NotRequired[Literal["image", "http"] | None]
    entry: str | None
    run: str | None
    timeout: float
    #: MiB.
    memory: int
    #: Cores; None is a share.
    cpu: float | None
    env: dict[str, str]
    network: bool
    idempotent: bool
    retries: int
    isolation: Literal["none", "fork"]
    preload: str | None
    bakedImage: NotRequired[str | None]
    minWarm: int | None
    maxWarm: int | None
    idle: float | None
    maxConcurrency: int | None
    #: Of a server: calls at once in one sandbox, and where it listens.
    concurrency: NotRequired[int]
    port: NotRequired[int]
    maxWait: float
    #: Which node gets a call (None: as the api does it); labels that a node must have.
    policy: NotRequired[Policy | None]
    requires: NotRequired[dict[str, str]]
    description: str
    project: str
    createdAt: str
    updatedAt: str
    callCount: int


class FunctionSettings(TypedDict, total=False):
    """What may be set of a function; None is the default of skep."""

    #: Which node gets a call, and the labels that a node must have.
    policy: Policy | None
    requires: dict[str, str] | None

    entry: str | None
    run: str | None
    timeout: float | None
    #: MiB.
    memory: int | None
    #: Cores; None is a share.
    cpu: float | None
    env: dict[str, str] | None
    network: bool | None
    idempotent: bool | None
    retries: int | None
    isolation: Literal["none", "fork"] | None
    preload: str | None
    #: What skep function build made of it.
    bakedImage: str | None
    minWarm: int | None
    maxWarm: int | None
    idle: float | None
    maxConcurrency: int | None
    #: Of a server: calls at once in one sandbox, and where it listens.
    concurrency: int | None
    port: int | None
    maxWait: float | None
    description: str | None


class FunctionChanges(FunctionSettings, total=False):
    """What may be changed of a function; None is the default of skep."""

    #: Of one that is an image: another one.
    image: str


class ImageSettings(FunctionSettings, total=False):
    """What may be set of a function that is an image; what is about code is refused."""

    contract: Literal["image", "http"] | None


class CallSettings(TypedDict, total=False):
    """What may be said of one call, as HTTP spells it."""

    timeout: float | None
    maxWait: float | None
    revision: int | None


class CallQuery(TypedDict, total=False):
    """Which calls a list is to hold; ``after`` is a callNum, exclusive in that order."""

    order: Literal["asc", "desc"] | None
    limit: int | None
    after: int | None
    status: str | None
    function: str | None


class Starts(TypedDict):
    """A worker's attempts, by what they found: a loaded sandbox, a generic one, none."""

    warm: int
    generic: int
    cold: int


class Worker(TypedDict):
    """A node's worker, as the api sees it."""

    name: str
    node: str
    pid: int
    state: Literal["up", "draining", "gone"]
    slots: int
    running: int
    sandbox: str
    isolation: str
    lastSeen: str
    #: The release that it runs, and what it was labelled with.
    version: NotRequired[str]
    labels: NotRequired[dict[str, str]]
    #: Attempts that are there: those that run, and those that wait there for a sandbox.
    attempts: NotRequired[int]
    #: It drains, and nothing is left there: it may be stopped.
    drained: NotRequired[bool]
    #: It was not heard of for a while: it is given nothing new until it is.
    silent: NotRequired[bool]
    #: Slots that it grants, and why it grants fewer than it has free.
    free: NotRequired[int]
    withheld: NotRequired[str]
    #: Idle sandboxes by revision key.
    warm: dict[str, int]
    #: Generic sandboxes that wait, by runtime.
    generic: dict[str, int]
    preload: Literal["none", "runtime", "function"]
    starts: Starts
    #: Which part of the starts was warm, and which part of the others found a generic one.
    hitRatio: float | None
    genericHitRatio: float | None


class Queue(TypedDict):
    """What waits and what runs of one revision of a function."""

    functionName: str
    revision: int
    queued: int
    running: int


class Logs(TypedDict):
    """What a call printed beside its result; ``omitted`` counts the bytes left out."""

    stdout: str
    stderr: str
    omitted: int


class Health(TypedDict):
    """That the api lives."""

    status: str
    version: str
    pid: int


class Process(TypedDict):
    """A process of the installation: ``state`` is up, silent, draining, gone or refused."""

    process: str
    name: str
    release: str
    protocol: int
    state: str
    reason: str


class Versions(TypedDict):
    """What the api runs, and every process that it knows."""

    release: str
    protocol: int
    processes: list[Process]
