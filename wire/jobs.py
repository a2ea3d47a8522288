"""What a worker says to its miniworkers, and to the zygote that forks them.

``FROM_MINIWORKER`` and ``TO_MINIWORKER`` are the dialects of the ROUTER-DEALER link on ipc.
The zygote is spoken to over a SOCK_SEQPACKET socketpair, one JSON object a packet
(``encode_order`` and the three below): it has to stay free of ZeroMQ until it has forked.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from wire.codec import Dialect, Message
from wire.errors import ProtocolError
from wire.messages import Outcome
from wire.models import Count, Fault, Name, Number, Reason, Spec

#: Whether a node gets images from registries.
PullPolicy = Literal["missing", "never", "always"]

# --- miniworker to worker --------------------------------------------------------------


class Up(Message, frozen=True, kw_only=True):
    """The miniworker lives and listens; it has no sandbox yet."""

    KIND: ClassVar[int] = 64
    miniworker: Name
    pid: Number
    #: Whether it may be sent PACKs.
    packs: bool = False


class Ready(Message, frozen=True, kw_only=True):
    """The sandbox runs: generic with ``key`` empty, else specialised for it."""

    KIND: ClassVar[int] = 65
    key: str
    #: How long making (or specialising) it took.
    took_ms: Annotated[float, Meta(ge=0)]
    #: Of that, what putting the code in and loading it took.
    load_ms: Annotated[float, Meta(ge=0)] = 0.0


class Returned(Message, frozen=True, kw_only=True):
    """The attempt was handed over but never began; it may go to another miniworker."""

    KIND: ClassVar[int] = 66
    call: Number
    attempt: Number


class Done(Message, frozen=True, kw_only=True):
    """An attempt ended. The payload is result, stdout and stderr, cut by ``sizes``."""

    KIND: ClassVar[int] = 67
    call: Number
    attempt: Number
    outcome: Outcome
    sizes: tuple[Count, Count, Count]
    #: How long the function itself ran, without the way to it and back, as far as is known.
    ran_ms: Annotated[float, Meta(ge=0)] | None = None


class Built(Message, frozen=True, kw_only=True):
    """The dependencies of a bundle are installed, or are not for ``reason``."""

    KIND: ClassVar[int] = 68
    reason: Reason | None
    fault: Fault = Fault.NONE
    #: What the installer printed (tail).
    log: str = ""


class Broken(Message, frozen=True, kw_only=True):
    """There is no (more) sandbox; the miniworker ends after this."""

    KIND: ClassVar[int] = 69
    fault: Fault
    reason: Reason
    #: What the function printed while it could not be loaded (tail).
    log: str = ""


class Printed(Message, frozen=True, kw_only=True):
    """What the installer of a bundle printed since the last one, without secrets."""

    KIND: ClassVar[int] = 80
    text: str


class Pulling(Message, frozen=True, kw_only=True):
    """How far an image is on its way from its registry."""

    KIND: ClassVar[int] = 81
    percent: Annotated[int, Meta(ge=0, le=100)]


class Pulled(Message, frozen=True, kw_only=True):
    """The engine has the image, or cannot have it for ``reason``."""

    KIND: ClassVar[int] = 82
    reason: Reason | None
    fault: Fault = Fault.NONE
    #: What was baked into it (``wire.baked``); empty for most images.
    baked: str = ""


class Heartbeat(Message, frozen=True, kw_only=True):
    """Alive, while a call runs (an idle miniworker is judged by its pid alone)."""

    KIND: ClassVar[int] = 70
    call: Number
    attempt: Number


class Dropped(Message, frozen=True, kw_only=True):
    """So many messages of the worker were none of this protocol; said when it happens."""

    KIND: ClassVar[int] = 71
    count: Number


# --- worker to miniworker --------------------------------------------------------------


class Build(Message, frozen=True, kw_only=True):
    """Run the runtime's ``dependencies`` command in ``bundle``, a folder to be filled."""

    KIND: ClassVar[int] = 96
    spec: Spec
    bundle: str
    timeout_ms: Number
    #: How it reaches package indexes: proxies, certificates, credentials.
    env: dict[str, str] = {}


class Pull(Message, frozen=True, kw_only=True):
    """Have the engine have this image; answered PULLED. For a miniworker without a sandbox."""

    KIND: ClassVar[int] = 103
    image: str
    #: Whether it may be got from its registry: never, where it is missing, in any case.
    how: PullPolicy


class Premake(Message, frozen=True, kw_only=True):
    """Make a sandbox without code, for whatever a later SPECIALISE brings; answered READY."""

    KIND: ClassVar[int] = 102
    #: The runtime, and in place of a function one that has its limits and no code.
    spec: Spec
    #: The folder with the bundles of this node, of which one will be its own.
    bundles: str


class Specialise(Message, frozen=True, kw_only=True):
    """Make the sandbox the one of this key: the code of ``bundle`` at the runtime's path."""

    KIND: ClassVar[int] = 97
    spec: Spec
    bundle: str


class Job(Message, frozen=True, kw_only=True):
    """Run a call (or keep it ahead of the running one). The payload is the params."""

    KIND: ClassVar[int] = 98
    call: Number
    attempt: Number
    timeout_ms: Number
    traceparent: str = ""
    tracestate: str = ""


class Cancel(Message, frozen=True, kw_only=True):
    """End this attempt, whether it began or not; never touches another."""

    KIND: ClassVar[int] = 99
    call: Number
    attempt: Number
    reason: Reason


class Recall(Message, frozen=True, kw_only=True):
    """Return what has not begun; the running call goes on."""

    KIND: ClassVar[int] = 101


class Stop(Message, frozen=True, kw_only=True):
    """Return what has not begun, end the sandbox and leave."""

    KIND: ClassVar[int] = 100


FROM_MINIWORKER: Final = Dialect[Message](
    "miniworker to worker",
    Up,
    Ready,
    Returned,
    Done,
    Built,
    Broken,
    Printed,
    Pulling,
    Pulled,
    Heartbeat,
    Dropped,
)
TO_MINIWORKER: Final = Dialect[Message](
    "worker to miniworker", Build, Pull, Premake, Specialise, Job, Cancel, Recall, Stop
)


# --- worker and zygote -----------------------------------------------------------------


class Order(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of the packets between worker and zygote: JSON objects tagged by ``type``."""


class Spawn(Order, frozen=True, kw_only=True):
    """Fork a miniworker; answered Spawned, and Exited when it has ended."""

    miniworker: Name
    #: The worker's ipc endpoint for miniworkers, relative to the common working folder.
    endpoint: str
    driver: Literal["docker", "process", "fake"]
    #: A folder for this miniworker alone (sockets, work folder); it removes it at its end.
    folder: str
    #: Settings of the driver, decided once by the worker (level of confinement, uid, tools).
    settings: dict[str, str] = {}


class Kill(Order, frozen=True, kw_only=True):
    """End the miniworker with SIGKILL, and with it its sandbox."""

    miniworker: Name


class Spawned(Order, frozen=True, kw_only=True):
    """The miniworker was forked."""

    miniworker: Name
    pid: Number


class Exited(Order, frozen=True, kw_only=True):
    """The miniworker ended: ``status`` is its exit code, or minus the signal.

    ``handed`` is how many of its JOBs, in order, had gone on to its agent: only those may
    have begun.
    """

    miniworker: Name
    pid: Number
    status: int
    handed: Count | None = None


_ORDERS: Final[msgspec.json.Decoder[Spawn | Kill | Spawned | Exited]] = msgspec.json.Decoder(
    Spawn | Kill | Spawned | Exited
)


def encode_order(order: Order) -> bytes:
    """Return one packet for the zygote's socketpair."""
    return msgspec.json.encode(order)


def decode_order(packet: bytes) -> Spawn | Kill | Spawned | Exited:
    """Read one packet; raise ``ProtocolError`` if it is none."""
    try:
        return _ORDERS.decode(packet)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"bad packet between worker and zygote: {error}") from error
