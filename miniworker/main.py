"""The two commands of this room; a worker starts both."""

from __future__ import annotations

import logging
import sys

import click

from wire.process import LOG_FORMAT


@click.group(context_settings={"auto_envvar_prefix": "SKEP"})
@click.option("--log-level", default="info", show_default=True, help="debug, info, warning …")
def main(log_level: str) -> None:
    """Run functions in sandboxes, one miniworker to a sandbox. Started by skep-worker."""
    logging.basicConfig(
        level=log_level.upper(),
        format=LOG_FORMAT,
        datefmt="%Y-%m-%dT%H:%M:%S",
        stream=sys.stderr,
    )


@main.command()
@click.option("--fd", required=True, type=int, help="The SOCK_SEQPACKET socket to the worker.")
def zygote(fd: int) -> None:
    """Fork miniworkers on order, until the worker is gone."""
    from miniworker.zygote import serve  # noqa: PLC0415 - only here: it loads zmq

    serve(fd)
