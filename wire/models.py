"""The nouns of skep as data: runtime, function, call and what belongs to them.

One definition serves the wire, the store and HTTP; names are camelCase outside (as the
interface spells them) and snake_case here. All are frozen: a change makes a new one
(``msgspec.structs.replace``). Durations end in ``_s`` or ``_ms`` inside; the few public
fields whose outside names carry no unit (``timeout``, ``duration``, ``max_wait``, ``idle``)
are seconds. Points in time are ISO 8601 UTC with milliseconds, and only an api writes them.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

DEFAULT_PROJECT: Final = "default"

#: What a runtime, function or node may be called.
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z"
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
#: What a client may send as Idempotency-Key: visible ASCII.
KEY_PATTERN: Final = r"^[!-~]{1,255}\Z"
Key = Annotated[str, Meta(pattern=KEY_PATTERN)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
#: An agent by its name: ``none`` and those without a file run commands only.
AGENT_PATTERN: Final = r"^[a-z][a-z0-9]{0,31}\Z"
AgentName = Annotated[str, Meta(pattern=AGENT_PATTERN)]
#: The largest number that every reader of JSON has exactly; far below what MessagePack has.
MOST: Final = (1 << 53) - 1
Count = Annotated[int, Meta(ge=0, le=MOST)]
Number = Annotated[int, Meta(ge=1, le=MOST)]
Timeout = Annotated[float, Meta(ge=1, le=300)]
MaxWait = Annotated[float, Meta(ge=1, le=86_400)]
#: Each takes a descriptor of a miniworker, which may have no more than 1024.
Concurrency = Annotated[int, Meta(ge=1, le=500)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
DEFAULT_PORT: Final = 8080
#: Which node gets a call, of those that may have it.
PolicyName = Literal["warm-first", "round-robin", "least-loaded", "random"]
POLICIES: Final[tuple[PolicyName, ...]] = get_args(PolicyName)


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of the models: frozen, keyword-only, camelCase outside.

    Unknown fields are ignored: they are those of a newer release of the same protocol version.
    """


class Strict(Model, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what users write: unknown fields are refused, and named."""


def no_params() -> msgspec.Raw:
    """Return the params of a call that gives none."""
    return msgspec.Raw(b"{}")


class Status(enum.StrEnum):
    """Where a call stands; the last six are terminal and never change again."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    #: The function finished and said so.
    DONE = "DONE"
    #: The function said no, or could never begin; the reason tells which.
    FAILED = "FAILED"
    #: It ran longer than its timeout, or never started within maxWait.
    TIMEOUT = "TIMEOUT"
    #: It used more memory than its limit.
    OOM = "OOM"
    #: Its node or sandbox died and it may not run twice.
    LOST = "LOST"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Return whether the call has ended."""
        return self in _TERMINAL


_TERMINAL: Final = frozenset(Status) - {Status.PENDING, Status.RUNNING}


class Reason(Model, frozen=True, kw_only=True):
    """Why a call did not end DONE (or is silent): a code of the interface and a sentence."""

    code: str
    message: str


class Fault(enum.StrEnum):
    """Whose fault it is that an attempt never began: decides what happens next."""

    #: Nobody's: handed back (draining, evicted, its sandbox died under another call).
    NONE = "none"
    #: The function's: it would fail anywhere, so the call ends FAILED.
    FUNCTION = "function"
    #: The node's: another node may do better.
    NODE = "node"


class Warmth(enum.StrEnum):
    """Whether a sandbox had to be made for an attempt."""

    COLD = "cold"
    WARM = "warm"


class Package(Model, frozen=True, kw_only=True):
    """An uploaded archive: its bytes are named by their sha256."""

    sha256: Sha256
    size: Count
    originalname: str


class Runtime(Model, frozen=True, kw_only=True):
    """An image, where code goes in it, how dependencies are installed and code is run."""

    name: Name
    image: str
    path: str
    dependencies: str = ""
    run: str = ""
    contract: Literal["agent", "image", "http", "qinling"] = "agent"
    agent: AgentName = "none"
    env: dict[str, str] = {}
    network: bool = False
    description: str = ""
    id: str = ""
    revision: Count = 0
    project: str = DEFAULT_PROJECT
    created_at: str = ""
    updated_at: str = ""


class Function(Model, frozen=True, kw_only=True):
    """One revision of a function: package, runtime (by name and revision), limits, policies.

    ``runtime_revision`` is the runtime's revision that was newest when this catalogue entry
    was made; a call is pinned to both numbers when it is accepted.
    """

    function_name: Name
    runtime_name: Name
    id: str = ""
    revision: Count = 0
    package: Package | None = None
    image: str | None = None
    #: Of an image: how its calls are spoken to it; None is ``image``. Code has its runtime's.
    contract: Literal["image", "http"] | None = None
    entry: str | None = None
    run: str | None = None
    timeout: Timeout = 5.0
    memory: Annotated[int, Meta(ge=4, le=1_048_576)] = 256
    cpu: Annotated[float, Meta(gt=0, le=1024)] | None = None
    env: dict[str, str] = {}
    network: bool = False
    idempotent: bool = False
    retries: Annotated[int, Meta(ge=0, le=100)] = 0
    isolation: Literal["none", "fork"] = "none"
    preload: Literal["none", "runtime", "function", "image"] | None = None
    #: The image that it was baked into, with its runtime: nodes start it if preload says so.
    baked_image: str | None = None
    min_warm: Count | None = None
    max_warm: Count | None = None
    idle: Annotated[float, Meta(ge=0)] | None = None
    max_concurrency: Number | None = None
    #: Of a contract ``http``: calls at once in one sandbox, and where its server listens.
    concurrency: Concurrency = 1
    port: Port = DEFAULT_PORT
    max_wait: MaxWait = 600.0
    #: None: as the api does it for all.
    policy: PolicyName | None = None
    #: Labels that a node must have, each with this value.
    requires: dict[str, str] = {}
    description: str = ""
    project: str = DEFAULT_PROJECT
    created_at: str = ""
    updated_at: str = ""

    @property
    def may_repeat(self) -> bool:
        """Return whether an attempt that may have started may be tried again."""
        return self.idempotent or self.retries > 0


class Attempt(Model, frozen=True, kw_only=True):
    """One try of a call on one miniworker."""

    attempt: Number
    node: str | None = None
    miniworker: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    status: Status | None = None
    reason: Reason | None = None
    #: How it got to its sandbox: an idle one, a place behind a running call, a new one.
    way: Literal["idle", "ahead", "cold"] | None = None
    #: Why so, and why on this node, in plain words.
    why: str = ""


class Call(Model, frozen=True, kw_only=True):
    """The public record of a call; the first five fields are the seed's, in its order."""

    func_name: str
    #: By a factory: a schema cannot spell raw bytes as a default.
    params: msgspec.Raw = msgspec.field(default_factory=no_params)
    call_num: Number
    status: Status = Status.PENDING
    result: str = ""
    id: str
    runtime_name: str
    revision: Number
    project: str = DEFAULT_PROJECT
    #: What made the call: ``http`` today; a chain, a schedule or a webhook later.
    origin: str = "http"
    #: The call that made this one, if one did.
    parent: int | None = None
    accepted_at: str
    dispatched_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration: float | None = None
    node: str | None = None
    miniworker: str | None = None
    start: Warmth | None = None
    attempts: tuple[Attempt, ...] = ()
    peak_memory: int | None = None
    reason: Reason | None = None
    log_bytes_omitted: Count = 0
    result_type: Literal["text", "json"] = "text"
    result_encoding: Literal["base64"] | None = None
    #: The limits that it runs under: seconds, seconds, MiB.
    timeout: float | None = None
    max_wait: float | None = None
    memory: int | None = None
    #: What its time went to, in ms, in order; docs/architecture.md says what each means.
    stages: dict[str, float] = {}
    #: The trace that the caller named (W3C Trace Context), passed on to the function.
    traceparent: str | None = None


class Logs(Model, frozen=True, kw_only=True):
    """What a call printed beside its result: head and tail kept, the middle counted."""

    stdout: str = ""
    stderr: str = ""
    omitted: Count = 0


class CallRecord(Model, frozen=True, kw_only=True):
    """What the DB node keeps of a call: the public record and what its owner needs again.

    ``rev`` rises with every write; (``api``, ``epoch``) names the writer. ``logs`` None
    means "as stored before", so that a write need not carry them twice; so does an empty
    ``call.params`` (a ``Raw`` of no bytes is never valid JSON, hence never a value: on the
    wire ``params_kept`` stands for it, which ``wire.records`` sets and heeds).
    """

    call: Call
    rev: Number
    api: Name
    epoch: Number
    runtime_revision: Number
    timeout_ms: Number
    max_wait_ms: Number
    #: A synchronous call is never dispatched again after a restart of its api.
    sync: bool = False
    #: The node (id) and its life (boot) that an attempt was STARTed on, while it may run.
    node_id: str | None = None
    boot: str | None = None
    #: What the client said to have the call accepted once, and what of its request is
    #: compared when the key comes again.
    idempotency_key: Key | None = None
    logs: Logs | None = None
    params_kept: bool = False
    idempotency_digest: str | None = None
    tracestate: str = ""
    #: Of a call that runs: what ``startedAt`` leaves out of the moment, in ms. Its end is
    #: counted from there, and is the same whoever counts.
    started_rest_ms: float = 0.0


class Item(Model, frozen=True, kw_only=True):
    """One change of the catalogue, at its place in the one order.

    Exactly one of ``runtime`` and ``function`` is set. ``deleted`` refuses new calls of the
    name; older revisions stay readable while an unfinished call is pinned to them.
    """

    seq: Number
    runtime: Runtime | None = None
    function: Function | None = None
    deleted: bool = False

    def __post_init__(self) -> None:
        """Refuse an item that names nothing or two things."""
        if (self.runtime is None) == (self.function is None):
            raise ValueError("an item holds a runtime or a function, one of the two")


class Spec(Model, frozen=True, kw_only=True):
    """All that a node must know to run a call: one revision of a function and its runtime."""

    function: Function
    runtime: Runtime

    @property
    def key(self) -> str:
        """Return the name under which warm sandboxes of this pair are counted."""
        return revision_key(
            self.function.project,
            self.function.function_name,
            self.function.revision,
            self.runtime.revision,
        )

    @property
    def run(self) -> str:
        """Return the command that runs a call: the function's own, else the runtime's."""
        return self.function.run or self.runtime.run


def revision_key(project: str, function: str, revision: int, runtime_revision: int) -> str:
    """Return the key of one (function revision, runtime revision): ``default/dice@3.1``."""
    return f"{project}/{function}@{revision}.{runtime_revision}"


def parse_key(key: str) -> tuple[str, str, int, int]:
    """Take a key apart again; raise ``ValueError`` if it is none."""
    project, _, rest = key.partition("/")
    function, _, numbers = rest.rpartition("@")
    revision, _, runtime_revision = numbers.partition(".")
    if not (project and function):
        raise ValueError(f"not a revision key: {key!r}")
    return project, function, int(revision), int(runtime_revision)


def to_json(value: Any) -> bytes:
    """Encode a model, or plain data, as JSON in the interface's spelling."""
    return msgspec.json.encode(value)
