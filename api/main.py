"""``skep-api``: the process that speaks HTTP and gives calls to workers."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import click
import zmq

from api.reunion import Policy
from api.service import Service, open_service
from api.serving import Runner
from api.settings import Limits, Settings
from api.store import Store
from api.web import Web
from wire.errors import SkepError
from wire.logs import FORMATS, LEVELS
from wire.models import POLICIES
from wire.process import Started, refuse, release, run

log = logging.getLogger(__name__)

_DEFAULTS = Limits()


@click.command(context_settings={"auto_envvar_prefix": "SKEP", "show_default": True})
@click.version_option(release(), package_name="skep")
@click.option("--host", default="127.0.0.1", help="Address that HTTP listens on.")
@click.option("--port", default=3000, type=click.IntRange(0, 65535), help="0: a free port.")
@click.option("--workers-bind", default="tcp://127.0.0.1:3001", help="ROUTER for workers.")
@click.option("--pub-bind", default="tcp://127.0.0.1:3002", help="PUB for hints to workers.")
@click.option("--db", default="tcp://127.0.0.1:3003", help="Where the DB node is.")
@click.option(
    "--data",
    default=Path("skep-data"),
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for uploaded packages.",
)
@click.option("--name", default="api", help="Name of this api; its records bear it.")
@click.option(
    "--unfinished",
    default="requeue",
    type=click.Choice(["requeue", "fail", "keep"]),
    help="What becomes of calls that an earlier life left unfinished.",
)
@click.option(
    "--policy",
    default="warm-first",
    type=click.Choice(POLICIES),
    help="Which node gets a call, of functions that do not say it themselves.",
)
@click.option("--token", default="", show_default=False, help="Bearer token that is asked for.")
@click.option("--insecure", is_flag=True, help="Listen beyond loopback without a token.")
@click.option("--cors-origin", multiple=True, help="Origin whose pages may use this api.")
@click.option("--queue", default=_DEFAULTS.queue, type=click.IntRange(1), help="Calls waiting.")
@click.option("--max-package", default=_DEFAULTS.package, type=click.IntRange(1), help="Bytes.")
@click.option("--max-params", default=_DEFAULTS.params, type=click.IntRange(2), help="Bytes.")
@click.option("--max-result", default=_DEFAULTS.result, type=click.IntRange(1), help="Bytes.")
@click.option(
    "--max-waiting", default=_DEFAULTS.waiting, type=click.IntRange(1), help="Clients."
)
@click.option(
    "--upload-stall",
    default=30.0,
    type=click.FloatRange(0.1),
    help="Seconds that a request may pause while it is sent.",
)
@click.option(
    "--log-level", default="info", type=click.Choice(LEVELS), help="How much is logged."
)
@click.option("--log-format", default="text", type=click.Choice(FORMATS), help="Of each line.")
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--lifeline-fd", type=int, hidden=True)
def main(**options: Any) -> None:
    """Serve HTTP, and dispatch calls to the workers that connect."""
    started = Started(
        ready_fd=options["ready_fd"],
        lifeline_fd=options["lifeline_fd"],
        log_level=options["log_level"],
        log_format=options["log_format"],
        process="api",
        node=options["name"],
    )
    try:
        settings = _settings(options)
        settings.check()
        run(lambda stop: serve(settings, started, stop), started)
    except SkepError as error:
        refuse(error, started)


def _settings(options: dict[str, Any]) -> Settings:
    unfinished: Policy = options["unfinished"]
    return Settings(
        db=options["db"],
        data=options["data"],
        host=options["host"],
        port=options["port"],
        workers_bind=options["workers_bind"],
        pub_bind=options["pub_bind"],
        name=options["name"],
        unfinished=unfinished,
        policy=options["policy"],
        token=options["token"],
        insecure=options["insecure"],
        cors_origins=options["cors_origin"],
        upload_stall_s=options["upload_stall"],
        limits=Limits(
            package=options["max_package"],
            params=options["max_params"],
            result=options["max_result"],
            queue=options["queue"],
            waiting=options["max_waiting"],
        ),
    )


async def serve(settings: Settings, started: Started, stop: asyncio.Event) -> None:
    """Open, serve until ``stop`` (or until another life of this api takes over), close.

    Raises:
        StaleEpoch: another process runs as this api now.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    store = Store(context, settings.db)
    try:
        service = await _opened(settings, context, store, stop)
        if service is None:
            return
        web = Web(service)
        runner = Runner(web.application(), settings.upload_stall_s, web.express)
        try:
            url = await runner.listen(settings.host, settings.port)
            log.info("serving %s, workers at %s", url, service.hub.workers_endpoint)
            started.announce(
                url=url,
                workers=service.hub.workers_endpoint,
                pub=service.hub.pub_endpoint,
                pid=os.getpid(),
            )
            await _until(stop, service.fenced)
        finally:
            # Refuse new requests, answer those that wait, then store and close.
            service.waiters.close()
            service.preparing.close()
            await runner.cleanup()
            await service.stop()
    finally:
        store.close()
        context.term()


async def _opened(
    settings: Settings,
    context: zmq.Context[zmq.Socket[bytes]],
    store: Store,
    stop: asyncio.Event,
) -> Service | None:
    """Open the service as soon as the DB node answers; None if told to stop before."""
    opening = asyncio.ensure_future(open_service(settings, context, store))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if opening.done():
        return opening.result()
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    return None


async def _until(stop: asyncio.Event, fenced: asyncio.Future[None]) -> None:
    """Wait for either; raise what ended the second."""
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((stopping, fenced), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if fenced.done():
        fenced.result()
