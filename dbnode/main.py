"""``skep-dbnode``: options in, a running server out."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click
import zmq

from dbnode.desk import Desk
from dbnode.metrics import Metrics
from dbnode.opening import Redeploy, opened
from dbnode.retention import Retention
from dbnode.server import Server
from dbnode.store import Store
from wire import durations, process, sockets
from wire.errors import SkepError
from wire.logs import FORMATS
from wire.scrape import Place, scraped


class Duration(click.ParamType[float]):
    """Seconds, or as people write them: ``90``, ``12h``, ``30d``."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return seconds."""
        try:
            return durations.seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


log = logging.getLogger(__name__)


@click.command(context_settings={"auto_envvar_prefix": "SKEP", "show_default": True})
@click.option("--bind", default="tcp://127.0.0.1:3003", help="Where requests are answered.")
@click.option("--data", default="skep-data", help="The folder for a store without its own.")
@click.option("--store", "store_name", default=None, envvar="SKEP_STORE",
              help="tinydb:FOLDER, sqlite:///FILE, postgresql://USER@HOST/DATABASE or memory."
              "  [default: tinydb:DATA/db]")  # fmt: skip
@click.option("--redeploy", type=click.Choice(["keep", "fresh"]), default="keep",
              help="Keep what the store holds, or forget it at this start.")  # fmt: skip
@click.option("--keep-calls", type=click.IntRange(0),
              help="Remove the oldest finished calls beyond so many.")  # fmt: skip
@click.option("--keep-for", type=Duration(),
              help="Remove calls that finished longer ago, e.g. 30d.")  # fmt: skip
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]),
              default="info", help="How much goes to stderr.")  # fmt: skip
@click.option("--log-format", type=click.Choice(FORMATS), default="text", help="Of each line.")
@click.option("--metrics-port", type=click.IntRange(0, 65535),
              help="Serve /metrics there; 0: a free port.  [default: nowhere]")  # fmt: skip
@click.option("--metrics-host", default="127.0.0.1", help="Address that they listen on.")
@click.option("--ready-fd", type=int, help="Tell this descriptor when it serves.")
@click.option("--lifeline-fd", type=int, help="End when this descriptor ends.")
@click.version_option(process.release())
def main(
    bind: str,
    data: str,
    store_name: str | None,
    redeploy: Redeploy,
    keep_calls: int | None,
    keep_for: float | None,
    metrics_port: int | None,
    metrics_host: str,
    **started_as: Any,
) -> None:
    """Record runtimes, functions and calls; answer one request a frame (docs/protocol.md)."""
    started = process.Started(process="dbnode", node="dbnode", **started_as)
    scrape = Place(metrics_host, metrics_port)
    keep_for_ms = None if keep_for is None else round(keep_for * 1000)
    retention = Retention(keep_calls=keep_calls, keep_for_ms=keep_for_ms)
    try:
        with opened(store_name or "tinydb", redeploy, Path(data)) as store:
            desk = Desk(store, process.release(), retention)
            process.run(lambda stop: serve(stop, store, desk, bind, started, scrape), started)
    except SkepError as error:
        process.refuse(error, started)


async def serve(
    stop: asyncio.Event,
    store: Store,
    desk: Desk,
    bind: str,
    started: process.Started,
    scrape: Place,
) -> None:
    """Serve a store's desk on an endpoint until ``stop``."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        socket = sockets.open_socket(context, zmq.ROUTER)
        endpoint = sockets.bind(socket, bind)
        server = Server(socket, desk)
        try:
            async with scraped(scrape, Metrics(server, desk).page) as url:
                log.info("answering on %s from %r", endpoint, store)
                started.announce(
                    endpoint=endpoint, store=store.name, pid=os.getpid(), metrics=url
                )
                await server.serve(stop)
        finally:
            server.close()
            sockets.remove_file(endpoint)
    finally:
        context.destroy(linger=0)
    log.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
