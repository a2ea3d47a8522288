"""``skep invoke NAME --map FILE``: a call for each line, results in order, resumable.

With ``--out`` what is done is kept beside it in ``OUT.part``: a line that says what is mapped
and under which key, then the results so far. Each call has the key ``KEY:LINE``, so those that
were under way at an interruption are found again, not made a second time.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import secrets
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import click

from cli import params
from cli.display import counting
from cli.options import EXIT_INTERRUPTED, EXIT_NOT_DONE, say
from skep import Call, Client

_PART: Final = ".part"
_DONE: Final = "DONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """What is mapped: the function, its inputs, the options of each call."""

    function: str
    file: str
    out: Path | None
    concurrency: int
    key: str | None
    options: dict[str, Any]


def run(client: Client, mapping: Mapping) -> int:
    """Call the function with each line; write a line of JSON for each; return the exit code."""
    inputs = read(mapping.file)
    with _results(mapping, inputs) as journal:
        journal.say_resumed(len(inputs))
        try:
            with (
                counting(mapping.function, len(inputs), journal.count) as shown,
                closing(_calls(client, mapping, journal, inputs)) as calls,
            ):
                for call in calls:
                    journal.write(call)
                    shown.note(journal.count, failed=journal.failed)
        except KeyboardInterrupt:
            journal.say_interrupted(len(inputs))
            sys.exit(EXIT_INTERRUPTED)
    journal.say_ended()
    return EXIT_NOT_DONE if journal.failed else 0


def read(file: str) -> list[Any]:
    """Return the inputs: the JSON of each line that holds something."""
    # Not ``splitlines``: JSON may hold characters that end a line for it.
    lines = enumerate(params.content(file).split("\n"), 1)
    return [params.from_json(line, f"{file}, line {n}") for n, line in lines if line.strip()]


def _calls(
    client: Client, mapping: Mapping, journal: Journal, inputs: list[Any]
) -> Generator[Call, None, None]:
    """Make the calls that are left; a key for each makes one that was under way the same."""
    first = journal.count
    return client.map_calls(
        mapping.function,
        itertools.islice(inputs, first, None),
        concurrency=mapping.concurrency,
        idempotency_key=journal.key,
        first=first,
        **mapping.options,
    )


class Journal:
    """Where results go, and how far they are."""

    def __init__(self, file: IO[str], key: str, *, out: Path | None = None) -> None:
        self._file = file
        self._out = out
        self.key = key
        self.count = 0
        self.failed = 0
        self._first_failed: int | None = None

    def take(self, line: str) -> None:
        """Count a result of an earlier run."""
        result = json.loads(line)
        self._count(result["status"], result["callNum"])

    def write(self, call: Call) -> None:
        """Write the result of the next input."""
        self._file.write(_json(line_of(self.count, call)) + "\n")
        self._file.flush()
        self._count(call["status"], call["callNum"])

    def _count(self, status: str, number: int) -> None:
        self.count += 1
        if status != _DONE:
            self.failed += 1
            self._first_failed = self._first_failed or number

    def say_resumed(self, total: int) -> None:
        """Say that this goes on where an earlier run stopped."""
        if self.count:
            say(f"going on after {self.count:,} of {total:,}")

    def say_interrupted(self, total: int) -> None:
        """Say what is there, and how to have the rest."""
        rest = "the same command goes on from there" if self._out else "--out FILE would go on"
        say(f"\n{self.count:,} of {total:,} are done; {rest}")

    def say_ended(self) -> None:
        """Say where the results are, how many failed, and where to look."""
        if self._out is not None:
            say(f"{self.count:,} results are in {self._out}")
        if self.failed:
            say(
                f"{self.failed:,} of {self.count:,} did not end DONE\n"
                f"hint:  skep call explain {self._first_failed}"
            )


def line_of(index: int, call: Call) -> dict[str, Any]:
    """Return what is told of a call: its value, or why there is none."""
    line: dict[str, Any] = {"index": index, "callNum": call["callNum"]}
    line["status"] = call["status"]
    if call["status"] != _DONE:
        return {**line, "reason": call["reason"]}
    if encoding := call.get("resultEncoding"):
        line["resultEncoding"] = encoding
        return {**line, "result": call["result"]}
    return {**line, "result": params.value(call["result"])}


def _json(value: Any) -> str:
    # Half of a surrogate pair has no UTF-8: it stays the escape that it was.
    text = json.dumps(value, ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()


def _open(file: Path, mode: str) -> IO[str]:
    # A power cut may leave half a character, too.
    return file.open(mode, encoding="utf-8", errors="surrogateescape")


@contextmanager
def _results(mapping: Mapping, inputs: list[Any]) -> Iterator[Journal]:
    if mapping.out is None:
        yield Journal(sys.stdout, mapping.key or secrets.token_hex(8))
        return
    if mapping.out.exists():
        raise click.UsageError(f"{mapping.out} is there already; remove it, or say another")
    part = mapping.out.with_name(mapping.out.name + _PART)
    try:
        with _open(part, "a+") as file:
            yield _opened(file, mapping, part, inputs)
            done = list(_lines(file))[1:]
        whole = mapping.out.with_name(f"{mapping.out.name}{_PART}.whole")
        with _open(whole, "w") as file:
            file.writelines(done)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(mapping.out)
        part.unlink()
    except OSError as error:
        raise click.UsageError(f"{error.filename or part}: {error.strerror}") from error


def _opened(file: IO[str], mapping: Mapping, part: Path, inputs: list[Any]) -> Journal:
    """Begin a journal, or go on with the one that is there."""
    said = json.dumps([mapping.function, inputs, mapping.options], sort_keys=True)
    digest = hashlib.sha256(said.encode()).hexdigest()
    lines = list(_lines(file))
    # The line that was being written at a power cut is not whole.
    file.truncate(sum(len(line.encode(errors="surrogateescape")) for line in lines))
    file.seek(0, os.SEEK_END)
    if not lines:
        journal = Journal(file, mapping.key or secrets.token_hex(8), out=mapping.out)
        file.write(
            json.dumps({"map": mapping.function, "of": digest, "key": journal.key}) + "\n"
        )
        file.flush()
        return journal
    begun = _decoded(json.loads, lines[0], part)
    if begun.get("of") != digest or mapping.key not in (None, begun["key"]):
        raise click.UsageError(
            f"{part} holds results of other inputs or options; remove it, or say another --out"
        )
    journal = Journal(file, begun["key"], out=mapping.out)
    for line in lines[1:]:
        _decoded(journal.take, line, part)
    return journal


def _lines(file: IO[str]) -> Iterator[str]:
    file.seek(0)
    return (line for line in file.readlines() if line.endswith("\n"))


def _decoded(decode: Callable[[str], Any], line: str, part: Path) -> Any:
    try:
        return decode(line)
    except (ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f"{part} is not of a map ({error}); remove it") from error
