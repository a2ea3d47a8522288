"""The command line of a worker, and its life from the lock to the last socket."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec

from wire.errors import BadRequest, SkepError
from wire.models import Name
from wire.process import Started, run
from worker.folder import NodeFolder
from worker.node import Node
from worker.pool import PoolSettings
from worker.sandbox import choose
from worker.settings import Settings


@click.command(context_settings={"auto_envvar_prefix": "SKEP", "show_default": True})
@click.option("--name", required=True, help="What this node is called.")
@click.option("--api", required=True, help="The api's ROUTER: tcp://HOST:3001 or ipc://PATH.")
@click.option("--pub", help="The api's PUB. [default: its port + 1]")
@click.option(
    "--data", default="skep-data", type=click.Path(path_type=Path), help="The data folder."
)
@click.option(
    "--slots", type=click.IntRange(1, 10_000), help="Calls at once. [default: 2 x cores]"
)
@click.option(
    "--idle", default=300.0, type=click.FloatRange(0), help="Seconds a sandbox may idle."
)
@click.option(
    "--max-warm",
    type=click.IntRange(1),
    help="Sandboxes alive at once, running and idle; at least the slots. [default: 2 x slots]",
)
@click.option(
    "--max-starts",
    type=click.IntRange(1),
    help="Sandboxes made at the same time. [default: the cores, but 2 to 4]",
)
@click.option(
    "--sandbox",
    default="auto",
    type=click.Choice(["auto", "docker", "process", "fake"]),
    help="What confines user code: auto is docker if an engine answers; fake runs none.",
)
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Of the node; repeatable.")
@click.option("--token", default="", help="What the api demands of workers.")
@click.option(
    "--cache-bytes",
    default=4 << 30,
    type=click.IntRange(1),
    help="Packages and bundles that are kept though unused.",
)
@click.option(
    "--build-timeout",
    default=600.0,
    type=click.FloatRange(1),
    help="Seconds that installing dependencies may take.",
)
@click.option(
    "--grace", default=10.0, type=click.FloatRange(0), help="Seconds to finish at SIGTERM."
)
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--lifeline-fd", type=int, hidden=True)
@click.option("--log-level", default="info", help="debug, info, warning or error.")
def main(
    *,
    name: str,
    api: str,
    pub: str | None,
    data: Path,
    slots: int | None,
    idle: float,
    max_warm: int | None,
    max_starts: int | None,
    sandbox: str,
    label: tuple[str, ...],
    token: str,
    cache_bytes: int,
    build_timeout: float,
    grace: float,
    ready_fd: int | None,
    lifeline_fd: int | None,
    log_level: str,
) -> None:
    """Run the functions of an api on this machine."""
    slots = slots or 2 * (os.cpu_count() or 1)
    max_warm = max(slots, max_warm or 2 * slots)
    started = Started(ready_fd=ready_fd, lifeline_fd=lifeline_fd, log_level=log_level)
    try:
        settings = Settings(
            name=_name(name),
            api=api,
            pub=pub or _next_port(api),
            slots=slots,
            pool=PoolSettings(
                max_warm=max_warm,
                idle_s=idle,
                starts=max_starts or min(4, max(2, os.cpu_count() or 1)),
            ),
            labels=dict(_label(text) for text in label),
            token=token,
            cache_bytes=cache_bytes,
            build_s=build_timeout,
            grace_s=grace,
            log_level=log_level,
        )
        run(lambda stop: serve(settings, data, sandbox, started, stop), started)
    except SkepError as error:
        raise click.ClickException(f"{error.message}\n{error.hint}") from error


async def serve(
    settings: Settings, data: Path, sandbox: str, started: Started, stop: asyncio.Event
) -> None:
    """Be the node until ``stop`` is set."""
    boot = secrets.token_hex(8)
    folder = NodeFolder(data, settings.name, boot)
    folder.open()
    try:
        kind = await asyncio.to_thread(choose, sandbox, folder, boot)
        node = Node(settings, folder, boot, kind)
        node.start()
        started.announce(
            name=settings.name,
            node=folder.node_id,
            sandbox=kind.driver,
            isolation=kind.isolation,
            slots=settings.slots,
        )
        await stop.wait()
        await node.stop()
    finally:
        folder.close()


def _name(text: str) -> str:
    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError as error:
        raise BadRequest(
            f"a node cannot be called {text!r}",
            hint="letters, digits and . _ : -, beginning with a letter or digit",
        ) from error


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise BadRequest(f"--label {text!r} is not KEY=VALUE", hint="e.g. --label zone=a")
    return key, value


def _next_port(api: str) -> str:
    """Return where the PUB of an api is by default: one port after its ROUTER."""
    try:
        parts = urlsplit(api)
        port = parts.port
    except ValueError:
        port = None
    if port is None:
        raise BadRequest(
            f"--pub cannot be told from --api {api!r}",
            hint="say both, or --api tcp://HOST:PORT",
        )
    return f"{parts.scheme}://{parts.netloc.rpartition(':')[0]}:{port + 1}"
