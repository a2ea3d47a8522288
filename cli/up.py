"""``skep up``: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import click

from cli.building import build_environment, build_options
from cli.folder import Folder, FolderInUse, default_folder
from cli.options import Command
from cli.plan import Settings
from cli.running import serve
from cli.screen import Screen
from cli.stores import StoreName
from cli.units import SECONDS
from wire.hosts import is_loopback
from wire.logs import FORMATS
from wire.models import POLICIES
from wire.process import Started


@click.command(cls=Command, short_help="Start everything on this machine; Ctrl-C stops it.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of HTTP.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(0, 65535),
              help="Port of HTTP; 0 takes a free one.")  # fmt: skip
@click.option("--data", type=click.Path(file_okay=False, path_type=Path),
              help="Where everything is kept.  [default: ~/.local/share/skep]")  # fmt: skip
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64),
              help="How many workers to start.")  # fmt: skip
@click.option("--slots", type=click.IntRange(1, 10_000),
              help="Calls at once for each worker.  [default: 2 x cores]")  # fmt: skip
@click.option("--idle", type=click.FloatRange(0), help="Seconds a warm sandbox may idle.")
@click.option("--preload", default="none", show_default=True,
              type=click.Choice(["none", "runtime", "function"]),
              help="What waits before a call, of functions that do not say it.")  # fmt: skip
@click.option("--sandbox", default="process", show_default=True,
              type=click.Choice(["auto", "docker", "process"]),
              help="What confines functions: auto is docker if an engine answers.")  # fmt: skip
@click.option("--insecure", is_flag=True, help="Allow a --host of the network without token.")
@click.option("--token", help="Ask every client for this bearer token.")
@click.option("--store", type=StoreName(), metavar="STORE",
              help="tinydb, sqlite, sqlite:///FILE, postgresql://USER@HOST/DATABASE or memory."
              "  [default: tinydb]")  # fmt: skip
@click.option("--redeploy", default="keep", show_default=True,
              type=click.Choice(["keep", "fresh"]),
              help="Keep what is stored, or forget it at this start.")  # fmt: skip
@click.option("--keep-calls", type=click.IntRange(0), metavar="N",
              help="Remove the oldest finished calls beyond so many.")  # fmt: skip
@click.option("--keep-for", type=SECONDS, metavar="TIME",
              help="Remove calls that finished longer ago, e.g. 30d.")  # fmt: skip
@click.option("--unfinished", default="requeue", show_default=True,
              type=click.Choice(["requeue", "fail", "keep"]),
              help="What becomes of calls that the last run left unfinished.")  # fmt: skip
@click.option("--policy", default="warm-first", show_default=True,
              type=click.Choice(POLICIES),
              help="Which worker gets a call, of functions that do not say it.")  # fmt: skip
@click.option("--log-level", default="info", show_default=True,
              type=click.Choice(["debug", "info", "warning", "error"]),
              help="How much the processes write to DIR/logs.")  # fmt: skip
@click.option("--log-format", default="text", show_default=True,
              type=click.Choice(FORMATS), help="Of each line in DIR/logs.")  # fmt: skip
@build_options
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--lifeline-fd", type=int, hidden=True)
def up(
    data: Path | None,
    token: str | None,
    ready_fd: int | None,
    lifeline_fd: int | None,
    index_url: str | None,
    proxy: str | None,
    ca_bundle: Path | None,
    build_env: tuple[str, ...],
    **options: Any,
) -> None:
    """Start a DB node, an api and workers; print where they are; stop all on Ctrl-C."""
    builds = build_environment(index_url, proxy, ca_bundle, build_env)
    settings = Settings(**options, builds=builds)
    check_host(settings, token)
    started = Started(
        process="up",
        node="up",
        ready_fd=ready_fd,
        lifeline_fd=lifeline_fd,
        log_level="warning",
        log_format=settings.log_format,
    )
    screen = Screen()
    try:
        check_port(settings.host, settings.port)
        ended = serve(settings, Folder(data or default_folder()), token, screen, started)
    except (FolderInUse, OSError) as error:
        screen.error(*_explained(error))
        sys.exit(1)
    sys.exit(ended)


def check_host(settings: Settings, token: str | None) -> None:
    """Refuse to open a door to the network that anyone could walk through."""
    if not (is_loopback(settings.host) or token or settings.insecure):
        raise click.UsageError(
            f"--host {settings.host} lets the network run code on this machine; "
            "set --token (SKEP_TOKEN), or say --insecure if that is what you want"
        )


def check_port(host: str, port: int) -> None:
    """Raise ``OSError`` if the port cannot be had; before anything starts."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
            trial.listen()
        except OSError as error:
            raise OSError(error.errno, f"{host}:{port}: {error.strerror}") from error


def _explained(error: FolderInUse | OSError) -> tuple[str, str]:
    if isinstance(error, FolderInUse):
        return str(error), "stop that one, or choose another --data DIR and another --port"
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"cannot start: {where}{error.strerror or error}",
        "choose another --data DIR"
        if error.filename
        else "is skep running there already? Else choose another --port (0: a free one)",
    )
