"""Which release speaks which protocol version, and what is said to who speaks another. Pure.

Releases of one protocol version mix. A message of another one is not understood but for its
head, a REFUSE, and the first fields of the greeting that it may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from wire.codec import MAGIC, VERSION, Message, Payload, unpack
from wire.errors import WrongVersion

#: The protocol version that is spoken here.
PROTOCOL: Final = VERSION
#: What mends it, whichever side is the older one.
MEND: Final = (
    "upgrade the older one to a release of the same protocol version "
    "(docs/operating.md, Releases); skep version shows all"
)


class Stranger(NamedTuple):
    """Who speaks another protocol version; name and release are empty if it did not say."""

    protocol: int
    name: str = ""
    release: str = ""


def stranger(frames: Sequence[Payload], greeting: type[Message]) -> Stranger | None:
    """Return who sent a message of another protocol version; None if it is none.

    ``greeting`` is the message that names its sender; in every version the fields up to that
    name, and to the ``version`` if there is one, stand where they stand in this.
    """
    head, header = frames[0], frames[1]
    if len(head) != 3 or head[0] != MAGIC or head[1] == PROTOCOL:
        return None
    if head[2] != greeting.KIND:
        return Stranger(head[1])
    names = greeting.__struct_fields__
    name = next(at for at, field in enumerate(names) if field in ("name", "miniworker"))
    release = names.index("version") if "version" in names else -1
    said = _said(header)
    return Stranger(head[1], _text(said, name), _text(said, release))


def refusal(who: str, theirs: int, here: str) -> WrongVersion:
    """Return what is said to a peer and about it: both versions, and what to do.

    ``who`` and ``here`` name the two sides with their releases: ``worker node2 (release 2.0)``.
    """
    return WrongVersion(
        f"{who} speaks protocol version {theirs}, {here} speaks {PROTOCOL}", hint=MEND
    )


def named(what: str, name: str, release: str) -> str:
    """Return one side in words: ``worker node2 (release 2.0)``."""
    return f"{what}{f' {name}' if name else ''}{f' (release {release})' if release else ''}"


def _said(header: Payload) -> list[Any]:
    try:
        said = unpack(header)
    except (ValueError, RecursionError):
        return []
    return said if isinstance(said, list) else []


def _text(said: Sequence[Any], at: int) -> str:
    """Return a short text of a header, empty if there is none: its sender is a stranger."""
    value = said[at] if 0 <= at < len(said) else ""
    return value[:64] if isinstance(value, str) and value.isprintable() else ""
