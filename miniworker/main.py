"""The two commands of this room; a worker starts both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

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
@click.option(
    "--driver",
    "kind",
    type=click.Choice(["docker", "process", "fake"]),
    default="process",
    show_default=True,
    help="What the sandboxes will be: it is loaded once, and what killed ones left removed.",
)
@click.option("--settings", default="{}", help="Those of the driver, as the probe found them.")
def zygote(fd: int, kind: Literal["docker", "process", "fake"], settings: str) -> None:
    """Fork miniworkers on order, until the worker is gone."""
    from miniworker.zygote import serve  # noqa: PLC0415 - only here: it loads zmq

    serve(fd, kind, settings)


@main.command()
@click.argument("name")
def image(name: str) -> None:
    """Say whether the Docker engine of this host has an image, by the exit status too."""
    from miniworker.engine import EngineRefused  # noqa: PLC0415 - as above
    from miniworker.engine_probe import image_id  # noqa: PLC0415 - as above

    try:
        click.echo(image_id(name))
    except EngineRefused as error:
        words = f"the Docker engine has no image {name!r}" if error.is_missing else str(error)
        raise click.ClickException(words) from error
    except SkepError as error:
        raise click.ClickException(error.message) from error


@main.command()
@click.option("--folder", required=True, type=click.Path(), help="Where the tools are kept.")
@click.option(
    "--driver",
    "kind",
    type=click.Choice(["auto", "docker", "process"]),
    default="process",
    show_default=True,
    help="What to look for; auto is docker if an engine answers, else process.",
)
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
    "--network",
    envvar="SKEP_DOCKER_NETWORK",
    default="",
    help="The engine's network for what asks for one.  [default: bridge]",
)
@click.option(
    "--transport",
    type=click.Choice(["auto", "mounts", "volumes", "stdio"]),
    default="auto",
    show_default=True,
    help="How containers get their files; auto takes the first that works.",
)
@click.option("--identity", default="{}", help="JSON: installation, node, boot, bundles.")
@click.option(
    "--runtimes",
    envvar="SKEP_RUNTIMES",
    default="",
    help="Folders of runtimes beside skep's own, joined by ':'; their agents become usable.",
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON, as a worker reads it.")
def probe(
    folder: str,
    kind: Literal["auto", "docker", "process"],
    level: str,
    network: str,
    transport: Literal["auto", "mounts", "volumes", "stdio"],
    identity: str,
    runtimes: str,
    as_json: bool,
) -> None:
    """Find out what this host can confine, by doing it, and print that."""
    from miniworker.finding import Wish, find  # noqa: PLC0415 - as above

    try:
        wish = Wish.of(level, runtimes, network, identity, transport)
        found = find(Path(folder), kind, wish)
    except SkepError as error:
        raise click.ClickException(f"{error.message}\n{error.hint}") from error
    click.echo(json.dumps(found, indent=None if as_json else 2))
