"""The two commands of this room; a worker starts both."""

from __future__ import annotations

import json
from pathlib import Path

import click

from wire import logs
from wire.errors import SkepError
from wire.logs import FORMATS, Format


@click.group(context_settings={"auto_envvar_prefix": "SKEP"})
@click.option("--log-level", default="info", show_default=True, help="debug, info, warning …")
@click.option("--log-format", default="text", type=click.Choice(FORMATS), help="Of each line.")
@click.option("--node", default="zygote", help="The name of the worker, for the log.")
def main(log_level: str, log_format: Format, node: str) -> None:
    """Run functions in sandboxes, one miniworker to a sandbox. Started by skep-worker."""
    logs.setup(log_level, log_format, process="zygote", node=node)


@main.command()
@click.option("--fd", required=True, type=int, help="The SOCK_SEQPACKET socket to the worker.")
def zygote(fd: int) -> None:
    """Fork miniworkers on order, until the worker is gone."""
    from miniworker.zygote import serve  # noqa: PLC0415 - only here: it loads zmq

    serve(fd)


@main.command()
@click.option("--folder", required=True, type=click.Path(), help="Where the tools are kept.")
@click.option(
    "--level",
    "level",
    envvar="SKEP_ISOLATION",
    type=click.Choice(["auto", "bubblewrap", "uid", "rlimits"]),
    default="auto",
    show_default=True,
    help="Take this level of confinement instead of the strongest that works.",
)
@click.option(
    "--runtimes",
    envvar="SKEP_RUNTIMES",
    default="",
    help="Folders of runtimes beside skep's own, joined by ':'; their agents become usable.",
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON, as a worker reads it.")
def probe(folder: str, level: str, runtimes: str, as_json: bool) -> None:
    """Find out what this host can confine, by doing it, and print that."""
    from miniworker.probe import probe as find  # noqa: PLC0415 - as above

    try:
        found = find(Path(folder), level, [Path(p) for p in runtimes.split(":") if p])
    except SkepError as error:
        raise click.ClickException(f"{error.message}\n{error.hint}") from error
    click.echo(json.dumps(found, indent=None if as_json else 2))
