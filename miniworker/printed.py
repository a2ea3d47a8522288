"""What an installer prints: without secrets, in pieces while it runs, its end kept. Pure.

The bytes are hostile. Memory is bounded whatever comes, and a word is shown only once it is
whole: half a password could not be recognised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import unquote

#: Kept of the end, for whoever asks later; characters.
TAIL_CHARS: Final = 16 << 10
#: Shown while it runs, in all and at once; characters.
LIVE_CHARS: Final = 1 << 20
PIECE_CHARS: Final = 64 << 10
#: What has no end after so many bytes is no word that anyone wants to read.
WORD_BYTES: Final = 8 << 10
#: Of the end, what a reason repeats.
LAST_LINES: Final = 20
LAST_CHARS: Final = 4 << 10
HIDDEN: Final = "***"
ENOUGH: Final = "\n[this is more than is shown while it runs; the end is kept]\n"
TOO_LONG: Final = f"[a word of more than {WORD_BYTES} bytes]".encode()

_SPACES: Final = (b" ", b"\t", b"\r", b"\n")
_USER: Final = re.compile(r"://([^\s/\"'<>]+)@")
_SECRET_NAME: Final = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|_AUTH", re.IGNORECASE)
#: A shorter one would be found in innocent words.
_LEAST_SECRET: Final = 4
_ESCAPES: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f]")


class Printed:
    """The output of one build."""

    def __init__(self, environments: Iterable[Mapping[str, str]] = ()) -> None:
        self._secrets = sorted(_secrets(environments), key=len, reverse=True)
        self._word = b""
        self._is_skipping = False
        self._live: list[str] = []
        self._shown = 0
        self._tail = ""

    def __repr__(self) -> str:
        return f"<Printed {self._shown} characters, {len(self._live)} to show>"

    @property
    def tail(self) -> str:
        """Return the end of what was printed."""
        return self._tail

    @property
    def has_more(self) -> bool:
        """Return whether something waits to be shown."""
        return bool(self._live)

    def take(self, data: bytes) -> None:
        """Take what was read; the word that it breaks off in waits for its rest."""
        last = max(map(data.rfind, _SPACES)) + 1
        if last == 0:
            self._grow(data)
            return
        first = min(at for at in map(data.find, _SPACES) if at >= 0) + 1
        begun = data[first - 1 : first] if self._is_skipping else self._word + data[:first]
        self._is_skipping, self._word = False, b""
        self._put(begun + data[first:last])
        self._grow(data[last:])

    def end(self) -> None:
        """Take the last word as whole: no more will come."""
        word, self._word = self._word, b""
        self._put(word)

    def piece(self) -> str:
        """Return what may be shown next; empty if there is nothing."""
        text = "".join(self._live)
        self._live = [text[PIECE_CHARS:]] if len(text) > PIECE_CHARS else []
        return text[:PIECE_CHARS]

    def mask(self, text: str) -> str:
        """Return a text without the secrets of the settings, or of any URL in it."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return _USER.sub(f"://{HIDDEN}@", text)

    def _grow(self, data: bytes) -> None:
        if self._is_skipping:
            return
        self._word += data
        if len(self._word) > WORD_BYTES:
            self._is_skipping, self._word = True, b""
            self._put(TOO_LONG)

    def _put(self, data: bytes) -> None:
        if not data:
            return
        text = self.mask(data.decode(errors="replace"))
        self._tail = (self._tail + text)[-TAIL_CHARS:]
        room = LIVE_CHARS - self._shown
        if room > 0:
            self._live.append(text[:room])
            self._shown += len(text)
            if self._shown > LIVE_CHARS:
                self._live.append(ENOUGH)


def last_lines(text: str) -> str:
    """Return the last lines as a reason may hold them: few, plain, without what was redrawn."""
    lines = [_ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in _lines(text)]
    told = [line.rstrip() for line in lines if line.strip()]
    return "\n".join(told[-LAST_LINES:])[-LAST_CHARS:]


def _lines(text: str) -> list[str]:
    # Not splitlines(), which knows a dozen ends of lines.
    return text.split("\n")


def _secrets(environments: Iterable[Mapping[str, str]]) -> set[str]:
    found = {
        secret
        for environment in environments
        for name, value in environment.items()
        for secret in _secrets_of(name, value)
    }
    return {secret for secret in found if len(secret) >= _LEAST_SECRET}


def _secrets_of(name: str, value: str) -> Iterator[str]:
    if _SECRET_NAME.search(name):
        yield value
    for user in _USER.findall(value):
        # Without a colon the user is the token.
        password = user.partition(":")[2] or user
        yield password
        yield unquote(password)
