"""What ``skep db`` runs: a store exported, imported or checked while no DB node uses it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Self

import click

from dbnode.checking import Found, check
from dbnode.dump import read, written
from dbnode.opening import is_there, opened
from dbnode.store import Store
from dbnode.taking import take
from wire import process
from wire.durable import sync_names
from wire.errors import BadRequest, SkepError, StoreUnavailable

#: How often a person is told how far it is, in seconds.
_TELL_S: Final = 0.2
STDIO: Final = "-"


@click.group()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--store", envvar="SKEP_STORE", default="tinydb")
@click.pass_context
def main(ctx: click.Context, data: Path, store: str) -> None:
    """Export, import or check a store that no DB node uses."""
    ctx.obj = partial(_opened, store, data)


@main.command("export")
@click.argument("file")
@click.pass_obj
def export(store_of: Callable[..., Any], file: str) -> None:
    """Write everything that a store holds to a file, as lines of JSON; - is stdout."""
    with told(), store_of() as store, target(file) as out, Progress("exported") as progress:
        calls = items = 0
        for data, tally in written(store, process.release()):
            out.write(data)
            calls, items = tally.calls, tally.items
            progress.at(calls)
    say(f"exported {calls:,} calls and {items:,} changes of the catalogue")


@main.command("import")
@click.argument("file")
@click.pass_obj
def import_(store_of: Callable[..., Any], file: str) -> None:
    """Take what was exported over into a new store; - is stdin."""
    with told(), source(file) as lines:
        with Progress("verified") as progress:
            for number, _ in enumerate(read(lines), 1):
                progress.at(number)
        lines.seek(0)
        with store_of(make=True) as store:
            with Progress("imported") as progress:
                for calls in take(store, read(lines)):
                    progress.at(calls)
            with Progress("checked") as progress:
                for found in check(store, _now_ms()):
                    progress.at(found.calls)
    there = f"{found.runtimes:,} runtimes, {found.functions:,} functions"
    say(f"imported {found.calls:,} calls, {there}")
    finish(found)


@main.command("check")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def check_(store_of: Callable[..., Any], as_json: bool) -> None:
    """Read everything that a store holds; say what is damaged or does not fit together."""
    with told(), store_of() as store, Progress("checked") as progress:
        for found in check(store, _now_ms()):
            progress.at(found.calls)
        name = _described(store)
    if as_json:
        click.echo(json.dumps({"store": name, **asdict(found), "ok": not found.faults}))
    else:
        click.echo(f"store       {name}")
        click.echo(f"calls       {found.calls:,} ({found.unfinished:,} not ended)")
        click.echo(f"runtimes    {found.runtimes:,}\nfunctions   {found.functions:,}")
        click.echo(f"faults      {len(found.faults) or 'none'}")
    finish(found)


@contextmanager
def _opened(name: str, data: Path, *, make: bool = False) -> Iterator[Store]:
    if not make and not is_there(name, data):
        raise BadRequest(
            f"there is no store {name.partition(':')[0]} in {data}",
            hint="say --data and --store as skep up is told",
        )
    with opened(name, data=data) as store:
        yield store


def finish(found: Found) -> None:
    """End with status 1 if something is wrong, and say what."""
    for fault in found.faults:
        say(f"fault: {fault}")
    sys.exit(1 if found.faults else 0)


@contextmanager
def told() -> Iterator[None]:
    """Say an error and what to do about it; end with status 2, or 3 if another time may do."""
    try:
        yield
    except SkepError as error:
        say(f"error: {error.message}\nhint:  {error.hint}")
        sys.exit(3 if isinstance(error, StoreUnavailable) else 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"error: {where}{error.strerror or error}")
        sys.exit(2)


@contextmanager
def target(file: str) -> Iterator[BinaryIO]:
    """Give a file that appears whole, durable, and for its owner alone, or not at all.

    What is no file of its own, as a pipe or ``/dev/stdout``, is written to and stays.
    """
    if file == STDIO:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    place = Path(file)
    if place.exists() and not place.is_file():
        with place.open("wb") as out:
            yield out
        return
    fd, temporary = tempfile.mkstemp(prefix=f".{place.name}-", dir=place.parent)
    try:
        with os.fdopen(fd, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(place)
        sync_names(place.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def source(file: str) -> Iterator[IO[bytes]]:
    """Give a file that can be read twice."""
    if file != STDIO:
        with Path(file).open("rb") as lines:
            yield lines
        return
    with tempfile.TemporaryFile() as spooled:
        shutil.copyfileobj(sys.stdin.buffer, spooled)
        spooled.seek(0)
        yield spooled


class Progress:
    """Says on a terminal how far it is, on one line that goes at the end."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = time.monotonic() + _TELL_S
        self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def at(self, count: int) -> None:
        """Say how many, if it is time to."""
        if time.monotonic() >= self._next and sys.stderr.isatty():
            click.echo(f"\r{self._what} {count:,} …", nl=False, err=True)
            self._next = time.monotonic() + _TELL_S
            self._is_shown = True


def say(text: str) -> None:
    """Print what is not the result."""
    click.echo(text, err=True)


def _described(store: Store) -> str:
    return f"{store.name}, epoch {store.catalogue.epoch}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
