"""``skep doctor``: is this machine fit to run skep, and how to mend what is not."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from cli import checks
from cli.checks import Finding
from cli.folder import default_folder
from cli.installation import confinement
from cli.options import Command, Target, print_json, shared, target_of
from cli.words import plural
from skep import NotReachable, SkepError
from wire.hosts import is_loopback
from wire.process import release

_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}
_LABEL: Final = 24
_PATIENCE_S: Final = 3.0
_PORT: Final = 3000


@click.command(cls=Command)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path),
              help="The data folder to look at.  [default: ~/.local/share/skep]")  # fmt: skip
@shared()
@click.pass_context
def doctor(ctx: click.Context, data: Path | None) -> None:
    """Check this machine; say how to mend what is wrong.

    Python, bubblewrap, user namespaces, Docker, pip, disk, ports, versions and workers.

    Exits with 1 if a check failed; a warning is something that can be lived with.
    """
    target = target_of(ctx)
    found = findings(target, data or default_folder())
    failed = any(one.state == "fail" for one in found)
    if target.json:
        print_json({"ok": not failed, "checks": [one.as_dict() for one in found]})
    else:
        show(found, min(100, shutil.get_terminal_size().columns))
    sys.exit(int(failed))


def findings(target: Target, data: Path) -> list[Finding]:
    """Do all checks."""
    server, is_there = _server(target)
    return [
        checks.python(),
        checks.system(),
        checks.bubblewrap(),
        checks.user_namespaces(),
        checks.docker(dict(os.environ)),
        checks.pip(),
        checks.disk(data.absolute()),
        *_ports(target, is_there=is_there),
        server,
        *_workers(target, is_there=is_there),
    ]


def _ports(target: Target, *, is_there: bool) -> list[Finding]:
    """Look at the port of the address that is spoken to, if it is on this machine."""
    with target.client() as client:
        where = urlsplit(client.url)
    if not where.hostname or not is_loopback(where.hostname):
        return []
    return [
        checks.port(where.hostname, where.port or _PORT, is_ours=is_there),
        checks.inner_ports(where.hostname),
    ]


def _server(target: Target) -> tuple[Finding, bool]:
    """Compare the versions of the two sides."""
    own = release()
    try:
        with target.client(_PATIENCE_S) as client:
            other = str(dict(client.health()).get("version") or "unknown")
    except NotReachable as error:
        found = f"client {own}; {error.message}"
        return Finding("versions", "warn", found, "skep up starts one here"), False
    except SkepError as error:
        found = f"client {own}; the server says: {error.message}"
        return Finding("versions", "fail", found, error.hint or "is it skep?"), (
            error.code != "internal"
        )
    if other == own:
        return Finding("versions", "ok", f"client and server {own}"), True
    mend = "install the same release on both sides"
    return Finding("versions", "warn", f"client {own}, server {other}", mend), True


def _workers(target: Target, *, is_there: bool) -> list[Finding]:
    if not is_there:
        return []
    try:
        with target.client(_PATIENCE_S) as client:
            up = [one for one in client.workers() if one["state"] == "up"]
    except SkepError as error:
        return [Finding("workers", "fail", error.message, error.hint)]
    if not up:
        return [Finding("workers", "fail", "none is up", "see DIR/logs of skep up")]
    names = ", ".join(one["name"] for one in up)
    confined = "; ".join(sorted({" ".join(confinement(one).split()) for one in up}))
    return [Finding("workers", "ok", f"{names} up; {confined}")]


def show(found: list[Finding], width: int) -> None:
    """Print the findings, each with its state as a word, and how to mend it below."""
    for one in found:
        head = f"{click.style(f'{one.state:<4}', fg=_COLOURS[one.state])}  {one.check:<16}"
        click.echo(f"{head}  {_hanging(one.found, width)}")
        if one.mend and one.state != "ok":
            click.echo(f"{'':<{_LABEL}}{_hanging(f'mend: {one.mend}', width)}")
    counts = {state: sum(one.state == state for one in found) for state in _COLOURS}
    click.echo(
        f"\n{plural(len(found), 'check')}: {counts['ok']} ok, {counts['warn']} warn, "
        f"{counts['fail']} fail"
    )


def _hanging(text: str, width: int) -> str:
    return textwrap.fill(
        text, max(40, width), initial_indent=" " * _LABEL, subsequent_indent=" " * _LABEL,
        break_long_words=False, break_on_hyphens=False,
    ).strip()  # fmt: skip
