"""What both clients say to skep, without saying it: requests and pauses as data.

A verb is a generator. It gives a ``Request`` and is sent an ``Answer``, or ``Lost`` when none
came; it gives a ``Pause`` and is sent None; what it returns is the verb's value. A shell
(``skep.performing``) performs the steps, waiting or awaiting. So every decision is made once,
here and in ``skep.verbs``, without a socket or a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Final, Generic, TypeVar

from skep.errors import NotReachable, SkepError, from_answer

T = TypeVar("T")

#: An archive: where it lies, or its bytes.
Archive = PathLike[str] | str | bytes

_NOT_FOUND: Final = 404
#: The statuses that another moment may change: too many requests, not available.
PASSING: Final = frozenset({429, 503})
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart body: an archive as the file ``module``, and text or JSON beside it."""

    module: Archive
    fields: Mapping[str, str]
    #: A JSON object of what no text can say.
    extra: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request. All of them may be sent again: see ``exchange``."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    #: A JSON body.
    content: bytes | None = None
    form: Form | None = None
    #: How long the server may take beyond the usual, because it was asked to wait.
    wait_s: float = 0.0
    #: Is it part of a wait? Such a one outlasts a restart, however few retries are allowed.
    is_patient: bool = False
    #: Does it remove something, so that "not found" can mean that it did?
    is_removal: bool = False
    #: Takes an ``application/x-ndjson`` answer as it comes; an empty piece begins it.
    on_piece: Callable[[bytes], None] | None = None
    #: The file, or the folder of the file, that the answer's body is written to.
    into: PathLike[str] | str | None = None
    #: How long silence may last until the attempt counts as lost; set by ``exchange``.
    limit_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    #: The file that was written, if one was asked for.
    path: str = ""

    @property
    def is_success(self) -> bool:
        """Return whether it is what was asked for."""
        return 200 <= self.status < 300

    @property
    def retry_after_s(self) -> float | None:
        """Return how long the server asks to wait, unless it names a date."""
        said = self.headers.get("retry-after", "")
        return float(said) if said.isascii() and said.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer came. The request may have been carried out all the same."""

    why: str
    cause: Exception | None = None
    #: Whether it was given up because its time was over.
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class Ended(Generic[T]):
    """A dialogue is over, and this is its value."""

    value: T


Dialogue = Generator[Request | Pause, Any, T]


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a client is, and its clock and dice.

    ``timeout_s`` is what one request may take in all, its retries and pauses included, beside
    what the server was asked to wait.
    """

    retries: int
    timeout_s: float
    clock: Callable[[], float]
    #: A random number from 0 to 1.
    dice: Callable[[], float]

    def pause_s(self, failures: int, reply: Answer | Lost) -> float:
        """Return how long to wait after so many failures: full jitter, beyond what is asked.

        The jitter comes on top of what the server asks, for it asks all clients the same.
        """
        ceiling = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))
        asked_s = reply.retry_after_s if isinstance(reply, Answer) else None
        return (asked_s or 0.0) + self.dice() * ceiling

    def may_retry(self, request: Request, failures: int) -> bool:
        """Return whether one more attempt is allowed by their number."""
        return request.is_patient or failures <= self.retries


def advance(dialogue: Dialogue[T], reply: Answer | Lost | None) -> Request | Pause | Ended[T]:
    """Take a dialogue one step further; the first reply is None."""
    try:
        return dialogue.send(reply)
    except StopIteration as end:
        return Ended(end.value)


def may_pass(reply: Answer | Lost) -> bool:
    """Return whether another moment may bring a better answer."""
    return isinstance(reply, Lost) or reply.status in PASSING


def exchange(request: Request, pace: Pace) -> Dialogue[Answer]:
    """Send a request until its answer is final; return it if it is a success.

    Every request of skep may be repeated: reads and removals by nature, registrations because
    the same again changes nothing, invocations because they carry an ``Idempotency-Key``.
    Only what another moment may change is repeated: no answer, 429 and 503.

    Raises:
        NotReachable: no answer came, in all the attempts that are allowed.
        SkepError: skep answered that it cannot be done.
    """
    spent_s, failures, was_lost = 0.0, 0, False
    refused: Answer | None = None
    while True:
        began = pace.clock()
        reply: Answer | Lost = yield replace(request, limit_s=pace.timeout_s - spent_s)
        if isinstance(reply, Answer) and not may_pass(reply):
            return _final(request, reply, was_lost=was_lost)
        failures += 1
        if isinstance(reply, Answer):
            refused = reply
        else:
            was_lost = True
        spent_s += max(0.0, pace.clock() - began - request.wait_s)
        pause_s = pace.pause_s(failures, reply)
        if not pace.may_retry(request, failures) or spent_s + pause_s >= pace.timeout_s:
            # Only a first attempt has all the time: what a later one missed had been answered.
            is_cut_off = isinstance(reply, Lost) and reply.is_late
            raise error_of(refused if is_cut_off and refused else reply)
        yield Pause(pause_s)
        spent_s += pause_s


def _final(request: Request, answer: Answer, *, was_lost: bool) -> Answer:
    if answer.is_success:
        return answer
    if answer.status == _NOT_FOUND and request.is_removal and was_lost:
        # An attempt whose answer was lost has removed it.
        return answer
    raise error_of(answer)


def error_of(reply: Answer | Lost) -> SkepError:
    """Return what is wrong with an answer that is no success, or with none."""
    if isinstance(reply, Answer):
        return from_answer(reply.status, reply.body, reply.retry_after_s)
    error = NotReachable(
        reply.why, hint="Is it running (skep up)? Is the address right (--url, SKEP_URL)?"
    )
    error.__cause__ = reply.cause
    return error
