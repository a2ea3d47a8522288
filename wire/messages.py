"""What api and worker say to each other, in the order of docs/protocol.md.

``FROM_API`` and ``FROM_WORKER`` are the two dialects of the ROUTER-DEALER link; on PUB the
api says ``Catalogue`` and ``Cancel`` (the hints). Every message of an open session names it.
"""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from wire.codec import Dialect, Message
from wire.models import Count, Fault, Item, Name, Number, Reason, Spec, Status, Warmth

#: Params, results and logs up to this travel inline; larger ones in chunks.
INLINE_BYTES: Final = 2 << 20
CHUNK_BYTES: Final = 256 << 10
#: Payload bytes that may be under way on one link in one direction.
WINDOW_BYTES: Final = 8 << 20

TOPIC_CATALOGUE: Final = b"catalogue"
TOPIC_CANCEL: Final = b"cancel"


Ms = Annotated[float, Meta(ge=0)]


class ColdBecause(enum.StrEnum):
    """Why no warm sandbox was there; a worker's pool knows. Receivers bear unknown codes."""

    #: None of this function has been ready on the node since its worker started.
    FIRST = "first"
    #: There were sandboxes, but of another revision of the function or its runtime.
    REVISION = "revision"
    #: The last one had to make room for others.
    EVICTED = "evicted"
    #: The last one had been idle for too long.
    IDLE = "idle"
    #: The last one died, or had to be killed.
    DIED = "died"
    #: The last one left because memory was tight.
    MEMORY = "memory"
    #: There are some, and other calls have them all.
    BUSY = "busy"
    #: The function is an image: each call has a container of its own.
    ONE_CALL = "one_call"
    #: A call was broken off in the last one, a server, and may have run on in there.
    BROKEN_OFF = "broken_off"


class Made(msgspec.Struct, frozen=True, array_like=True):
    """The sandbox that had to be made, or loaded, for an attempt: why, and what that took.

    ``because`` is a ``ColdBecause``; ``stages`` are ms by name, only what fell between the
    attempt's coming and its START. A receiver bears codes and names it does not know.
    """

    because: str = ""
    stages: dict[str, Ms] = {}
    #: Set if the sandbox itself was there: the runtime whose generic one was taken.
    generic: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How an attempt ended. Durations only: the api adds them to its own clock."""

    status: Status
    reason: Reason | None = None
    #: From START's arrival to the moment the call became head in a ready sandbox.
    waited_ms: Ms = 0.0
    #: Of the execution itself.
    duration_ms: Ms = 0.0
    start: Warmth = Warmth.WARM
    miniworker: str = ""
    peak_memory: int | None = None
    result_type: Literal["text", "json"] = "text"
    #: Bytes of stdout and stderr that were left out between head and tail.
    omitted: Count = 0
    #: Set by the worker if ``start`` is cold.
    made: Made | None = None

    def __post_init__(self) -> None:
        """Refuse an outcome that is not an end, or a failure without a reason."""
        if not self.status.is_terminal:
            raise ValueError(f"{self.status} is not the end of an attempt")
        if (self.status is Status.DONE) != (self.reason is None):
            raise ValueError("an attempt has a reason if and only if it is not DONE")


class Warm(msgspec.Struct, frozen=True, array_like=True):
    """What a worker grants for one revision key: counts are absolute, not deltas."""

    key: str
    #: Ready sandboxes that wait; a START on one also spends a free slot.
    idle: Count
    #: Places behind a running call; a START on one spends no slot.
    ahead: Count = 0


# --- worker to api -------------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True):
    """Open a session: who this node is, what it can do and what it holds."""

    KIND: ClassVar[int] = 1
    #: Random, kept in the node's folder under a lock.
    node_id: Name
    #: Random for each start of the worker.
    boot: Name
    name: Name
    pid: Number
    version: str
    slots: Number
    sandbox: Literal["docker", "process", "fake"]
    #: What the sandbox confines, in plain words.
    isolation: str
    labels: dict[str, str] = {}
    #: (call, attempt) pairs that were STARTed here and have no recorded result yet.
    running: tuple[tuple[int, int], ...] = ()
    #: Where this node's catalogue stands: (epoch, seq); ("", 0) if it knows nothing.
    epoch: str = ""
    seq: Count = 0
    token: str = ""
    #: Rises with each HELLO of this boot; 0 if that is not told.
    number: Count = 0
    #: Whether it may be sent PACKs.
    packs: bool = False


class Credit(Message, frozen=True, kw_only=True):
    """Grant starts: absolute counts, as of ``seen`` messages that spend."""

    KIND: ClassVar[int] = 2
    session: Number
    #: PREPAREs and STARTs of this session read so far; the api subtracts later ones.
    seen: Count
    #: Slots that nobody has: a sandbox may be made for one, or an idle one may run a call.
    free: Count
    #: Only the keys whose counts changed since the last CREDIT of this session.
    warm: tuple[Warm, ...] = ()
    #: Payload bytes received in this session: opens the api's window again.
    received: Count = 0
    #: Slots beside those that are free, of attempts that wait for their sandboxes: an idle
    #: one may run a call in them meanwhile, and none may be made.
    lent: Count = 0


class WorkerHeartbeat(Message, frozen=True, kw_only=True):
    """Alive, once a second; carries what only people read."""

    KIND: ClassVar[int] = 3
    session: Number
    seen: Count
    received: Count
    running: Count
    sandboxes: Count
    load: float = 0.0
    state: Literal["up", "draining"] = "up"
    #: (key, warm sandboxes), for people; the grants are in CREDIT.
    warm: tuple[tuple[str, int], ...] = ()
    #: (runtime, generic sandboxes that wait), for people.
    generic: tuple[tuple[str, Count], ...] = ()
    #: Attempts since the worker began, by what they found: a loaded sandbox, a generic
    #: one, none.
    starts: tuple[Count, Count, Count] = (0, 0, 0)
    preload: Literal["none", "runtime", "function"] = "none"
    #: Why fewer slots are granted than are free, in words; empty if all are.
    withheld: str = ""


class Ready(Message, frozen=True, kw_only=True):
    """A PREPAREd attempt has a sandbox that waits for its START."""

    KIND: ClassVar[int] = 4
    session: Number
    call: Number
    attempt: Number


class Progress(Message, frozen=True, kw_only=True):
    """What a PREPAREd attempt waits for, where that takes long; for people alone."""

    KIND: ClassVar[int] = 10
    session: Number
    call: Number
    attempt: Number
    #: Such as "pulling IMAGE: 40 %".
    text: Annotated[str, Meta(max_length=512)]


class Returned(Message, frozen=True, kw_only=True):
    """The attempt will never begin here, whatever was sent: it may go elsewhere."""

    KIND: ClassVar[int] = 5
    session: Number
    call: Number
    attempt: Number
    fault: Fault = Fault.NONE
    reason: Reason | None = None
    #: What an installer printed, where the reason is ``install_failed`` (tail, 16 KiB).
    log: str = ""

    def __post_init__(self) -> None:
        """A fault must be explained, for it reaches the call's record."""
        if self.fault is not Fault.NONE and self.reason is None:
            raise ValueError("a RETURNED with a fault needs a reason")


class Result(Message, frozen=True, kw_only=True):
    """A part of what an attempt produced; the last part carries the outcome.

    The payload is the concatenation of slices of four channels, cut by ``sizes``: params
    (only when repeated to an api that may not know the call), result, stdout, stderr.
    """

    KIND: ClassVar[int] = 6
    session: Number
    call: Number
    attempt: Number
    sizes: tuple[Count, Count, Count, Count] = (0, 0, 0, 0)
    outcome: Outcome | None = None
    #: Counts the ends of this session, 1, 2, 3 ...; 0 on parts that are not the end.
    number: Count = 0
    #: The record that came with START (JSON), on results repeated after a HELLO.
    record: bytes = b""
    #: The CREDIT that is due with this end: mostly of the slot that it leaves.
    credit: Credit | None = None

    def __post_init__(self) -> None:
        """Exactly the ends are numbered, so that RECORDED can be cumulative."""
        if (self.outcome is None) != (self.number == 0):
            raise ValueError("a RESULT is numbered if and only if it is the end")
        if self.credit is not None and not self.takes_credit:
            raise ValueError("only an end that is not repeated has a CREDIT")

    @property
    def takes_credit(self) -> bool:
        """Return whether a CREDIT may go with it."""
        return self.number > 0 and not self.record


class Fetch(Message, frozen=True, kw_only=True):
    """Ask for bytes of a package or of a call's params, from ``offset`` on."""

    KIND: ClassVar[int] = 7
    session: Number
    what: Literal["package", "params"]
    #: The package's sha256, or ``call.attempt`` of the params.
    key: str
    offset: Count
    #: How many bytes may be sent before the next FETCH of this key.
    credit: Number


class Sync(Message, frozen=True, kw_only=True):
    """Ask for the catalogue after (epoch, seq), or for single revisions by key."""

    KIND: ClassVar[int] = 8
    session: Number
    epoch: str
    seq: Count
    keys: tuple[str, ...] = ()


class Bye(Message, frozen=True, kw_only=True):
    """Leave: nothing runs here any more, and no more results will come."""

    KIND: ClassVar[int] = 9
    session: Number


class BundleLog(Message, frozen=True, kw_only=True):
    """What the installer of a bundle printed, while it runs; from its beginning."""

    KIND: ClassVar[int] = 16
    session: Number
    ticket: Number
    text: str


class Bundled(Message, frozen=True, kw_only=True):
    """The bundle of a ticket is made, or there is none for ``reason``."""

    KIND: ClassVar[int] = 17
    session: Number
    ticket: Number
    fault: Fault = Fault.NONE
    reason: Reason | None = None

    def __post_init__(self) -> None:
        """A fault must be explained, for a user reads it; and only a fault."""
        if (self.fault is Fault.NONE) != (self.reason is None):
            raise ValueError("a BUNDLED has a reason if and only if it has a fault")


# --- api to worker -------------------------------------------------------------------


class Welcome(Message, frozen=True, kw_only=True):
    """Open the session that HELLO asked for."""

    KIND: ClassVar[int] = 32
    session: Number
    api: Name
    #: Where the api's catalogue stands; what is missing follows in CATALOGUE.
    epoch: str
    seq: Count


class Refuse(Message, frozen=True, kw_only=True):
    """No session: the name is taken, the token is wrong, the version is another."""

    KIND: ClassVar[int] = 33
    TIMELESS: ClassVar[bool] = True
    code: str
    message: str
    hint: str = ""


class Who(Message, frozen=True, kw_only=True):
    """A message of a session that is not open here came: say HELLO again."""

    KIND: ClassVar[int] = 34


class Catalogue(Message, frozen=True, kw_only=True):
    """Changes of the catalogue in order, or all of it; also the hint on PUB.

    ``after`` is the seq that ``items`` build on. A snapshot (``after`` 0) replaces all.
    ``pinned`` carries older revisions that were asked for by key; they change nothing.
    """

    KIND: ClassVar[int] = 35
    session: Count
    epoch: str
    after: Count
    seq: Count
    items: tuple[Item, ...] = ()
    pinned: tuple[Item, ...] = ()
    #: Keys asked for that do not exist (any more).
    missing: tuple[str, ...] = ()


class Prepare(Message, frozen=True, kw_only=True):
    """Get a sandbox ready for an attempt, answer READY, begin nothing."""

    KIND: ClassVar[int] = 36
    session: Number
    call: Number
    attempt: Number
    key: str
    #: What is left of maxWait.
    budget_ms: Number


class Start(Message, frozen=True, kw_only=True):
    """Begin an attempt: the only permission there is. The payload is the params."""

    KIND: ClassVar[int] = 37
    session: Number
    call: Number
    attempt: Number
    key: str
    timeout_ms: Number
    #: Of the params, in bytes. A payload of another size is none: FETCH them.
    size: Count
    #: The call's record (JSON, without params), to be repeated with its RESULT.
    record: bytes
    traceparent: str = ""
    #: It spends a place behind a running call, not an idle sandbox and a slot.
    ahead: bool = False
    tracestate: str = ""


class Cancel(Message, frozen=True, kw_only=True):
    """End an attempt, begun or not; on PUB a hint with ``session`` 0."""

    KIND: ClassVar[int] = 38
    session: Count
    call: Number
    attempt: Count
    reason: Reason


class Recorded(Message, frozen=True, kw_only=True):
    """Every RESULT numbered up to this is durable: the worker may forget it."""

    KIND: ClassVar[int] = 39
    session: Number
    upto: Number


class Chunk(Message, frozen=True, kw_only=True):
    """Bytes that FETCH asked for; ``error`` instead of bytes when there are none."""

    KIND: ClassVar[int] = 40
    session: Number
    what: Literal["package", "params"]
    key: str
    offset: Count
    total: Count
    error: Reason | None = None


class Bundle(Message, frozen=True, kw_only=True):
    """Make the bundle of a spec that is not in the catalogue (yet); begin nothing."""

    KIND: ClassVar[int] = 48
    session: Number
    #: Of the api's choice; the answers name it.
    ticket: Number
    #: Its revision does not matter: a bundle does not depend on it.
    spec: Spec


class Drain(Message, frozen=True, kw_only=True):
    """Take nothing new, hand back what has not begun, finish what runs; stay."""

    KIND: ClassVar[int] = 49
    session: Number


class Resume(Message, frozen=True, kw_only=True):
    """Take calls again, after DRAIN."""

    KIND: ClassVar[int] = 50
    session: Number


class ApiHeartbeat(Message, frozen=True, kw_only=True):
    """Alive, once a second or after 2 MiB received; heals a lost last publication."""

    KIND: ClassVar[int] = 41
    session: Number
    epoch: str
    seq: Count
    #: Payload bytes received in this session: opens the worker's window again.
    received: Count


FROM_WORKER: Final = Dialect[Message](
    "worker to api",
    Hello,
    Credit,
    WorkerHeartbeat,
    Ready,
    Progress,
    Returned,
    Result,
    Fetch,
    Sync,
    Bye,
    BundleLog,
    Bundled,
)
FROM_API: Final = Dialect[Message](
    "api to worker",
    Welcome,
    Refuse,
    Who,
    Catalogue,
    Prepare,
    Start,
    Cancel,
    Recorded,
    Chunk,
    Bundle,
    Drain,
    Resume,
    ApiHeartbeat,
)
