"""The params of a call as a user types them: JSON, a file, stdin, or key=value."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

EXAMPLE: Final = '\'{"roll": "4d6"}\' or roll=4d6'
#: What begins like JSON is JSON, though it holds a ``=``.
_PAIR: Final = re.compile(r"[^\s={}\[\]\"']+=")
#: What makes several words doubtful: a pair among them, or a piece of JSON.
_NO_ARGUMENT: Final = re.compile(_PAIR.pattern + r"|[{\[\"]")


def read(words: Sequence[str], file: str | None, *, is_list: bool = False) -> Any:
    """Return the params that the words of a command line, or its ``-f``, stand for.

    With ``is_list`` the words are the params, each a text; so are several that are neither
    pairs nor the pieces of a JSON text that nobody quoted.

    Raises:
        click.UsageError: they are no params, or of two kinds at once.
    """
    if file is not None:
        if words:
            raise click.UsageError(
                f"params come from -f {file} or from the command line, not from both; "
                f"leave out {words[0]!r} or the -f"
            )
        return from_json(content(file), f"-f {file}")
    if is_list or (len(words) > 1 and not any(map(_NO_ARGUMENT.match, words))):
        return list(words)
    if not words:
        return {}
    if all(map(_PAIR.match, words)):
        return _pairs(words)
    if len(words) > 1:
        raise click.UsageError(_mixed(words))
    if words[0] == "-" or words[0].startswith("@"):
        return from_json(content(words[0].removeprefix("@")), words[0])
    return from_json(words[0], "PARAMS", "; --list if it is an argument")


def from_json(text: str, name: str, advice: str = "") -> Any:
    """Read JSON; NaN and Infinity are none. ``advice`` ends the complaint."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        said = f"{name} is not JSON ({error}); e.g. {EXAMPLE}{advice}"
        raise click.UsageError(said) from error


def _pairs(words: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        if key in found:
            raise click.UsageError(f"{key} is given twice")
        found[key] = value(text)
    return found


def value(text: str) -> Any:
    """Return what the text after ``key=`` stands for: JSON if it is JSON, else itself."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _mixed(words: Sequence[str]) -> str:
    pair = next((word for word in words if _PAIR.match(word)), None)
    other = next(word for word in words if not _PAIR.match(word))
    if pair is None:
        return f"one JSON text is expected, not {len(words)}; quote it: {EXAMPLE}"
    return (
        f"{pair!r} is key=value and {other!r} is not; give one JSON text or only key=value, "
        "or say --list if all of them are arguments"
    )


def content(file: str) -> str:
    """Return the text of a file; - is stdin."""
    try:
        if file == "-":
            if sys.stdin.isatty():
                click.echo("params from the keyboard; Ctrl-D ends them", err=True)
            return sys.stdin.read()
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{error.filename}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not text in UTF-8 ({error.reason})") from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
