"""Records as people read them: one in full, many as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import click

from cli.display import facts, is_person, table, working
from cli.options import exit_code, hint_of, print_error, print_json
from cli.tables import Cell, Column
from cli.words import ago, seconds_at, size, span
from skep import SkepError


def record(found: Mapping[str, Any]) -> None:
    """Print what of a record says anything."""
    facts([(key, _text(key, value)) for key, value in found.items() if _says(value)])


def _says(value: Any) -> bool:
    return value is not None and value not in ("", [], {})


def _text(key: str, value: Any) -> str:
    if isinstance(value, str):
        is_time = key.endswith("At") and seconds_at(value) is not None
        return f"{value}  ({ago(value, time.time())})" if is_time and is_person() else value
    if key == "package":
        digest = f"{value['sha256'][:16]}…" if is_person() else value["sha256"]
        return f"{value['originalname']}, {size(value['size'])}, sha256 {digest}"
    if is_person() and key in _SPELLED:
        return _SPELLED[key](value)
    return json.dumps(value, ensure_ascii=False)


def _attempts(found: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for one in found:
        reason, why = one.get("reason"), one.get("why")
        head = f"{one['attempt']}. {one.get('status') or '-'} on {one.get('node') or '-'}"
        tail = f": {reason['message']} [{reason['code']}]" if reason else ""
        lines.append(f"{head}{tail}" + (f" ({why})" if why else ""))
    return "\n".join(lines)


#: How people are shown what is no single word.
_SPELLED: Final[Mapping[str, Callable[[Any], str]]] = {
    "attempts": _attempts,
    "stages": lambda ms: ", ".join(f"{name} {span(took / 1000)}" for name, took in ms.items()),
    "reason": lambda reason: f"{reason['message']} [{reason['code']}]",
    "env": lambda env: "\n".join(f"{name}={value}" for name, value in env.items()),
    "duration": span,
    "timeout": lambda seconds: f"{seconds:g} s",
    "maxWait": lambda seconds: f"{seconds:g} s",
    "memory": lambda mib: f"{mib} MiB",
    "peakMemory": size,
}


def when(moment: str | None) -> Cell:
    """Return a point in time: relative for people, ISO 8601 for programs."""
    return Cell(ago(moment, time.time()), moment or "")


def names(found: Iterable[str], *, as_json: bool) -> None:
    """Print names, one a line."""
    if as_json:
        print_json(list(found))
    else:
        click.echo("".join(f"{name}\n" for name in found), nl=False)


def described(
    found: Sequence[str],
    read: Callable[[str], Any],
    *,
    columns: Sequence[Column],
    row: Callable[[Any], list[Cell]],
    as_json: bool,
    only_names: bool,
) -> None:
    """Print names; or, which costs a request for each, what they are the names of."""
    if only_names:
        names(found, as_json=as_json)
        return
    with working("reading"):
        records = [read(name) for name in found]
    print_json(records) if as_json else table(columns, list(map(row, records)))


def each(given: Iterable[str], act: Callable[[str], None], *, as_json: bool) -> int:
    """Remove every name; return 0, or the exit code of the last that could not be."""
    status, removed, errors = 0, [], []
    for name in given:
        try:
            act(name)
        except SkepError as error:
            status = exit_code(error)
            hint = hint_of(error, click.get_current_context(), name)
            errors.append({"name": name, **error.as_dict(), "hint": hint})
            if not as_json:
                print_error(error, hint)
            continue
        removed.append(name)
        if not as_json:
            click.echo(name)
    if as_json:
        print_json({"removed": removed, "errors": errors})
    return status
