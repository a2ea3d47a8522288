"""The command line of a worker, and its life from the lock to the last socket."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec

from wire.errors import BadRequest, SkepError
from wire.jobs import PullPolicy
from wire.logs import FORMATS, LEVELS, Format
from wire.models import Name
from wire.process import Started, refuse, release, run
from wire.reach import Reach, assignment
from wire.scrape import Place, scraped
from worker import authorities
from worker.folder import NodeFolder
from worker.keep_alive import KEEP_ALIVES, KeepAlive
from worker.metrics import Metrics
from worker.node import Node
from worker.pool import PoolSettings
from worker.preload import POLICIES, Policy
from worker.sandbox import choose, with_credentials
from worker.settings import Settings


class Assignments(click.types.StringParamType):
    """NAME=VALUE; several of them in one variable are quoted as in a shell."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Take SKEP_BUILD_ENV apart."""
        return shlex.split(rv)


@click.command(context_settings={"auto_envvar_prefix": "SKEP", "show_default": True})
@click.version_option(release(), package_name="skep")
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
    "--keep-alive",
    default="idle",
    type=click.Choice(KEEP_ALIVES),
    help="Which idle sandbox leaves: after --idle, or only for room the one unused longest "
    "(lru) or worth least (greedy-dual).",
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
    default="process",
    type=click.Choice(["auto", "docker", "process", "fake"]),
    help="What confines user code: auto is docker if an engine answers; fake runs none.",
)
@click.option(
    "--transport",
    default="auto",
    type=click.Choice(["auto", "mounts", "volumes", "stdio"]),
    help="How containers get their files and are spoken to; auto takes what works first.",
)
@click.option(
    "--pull",
    default="missing",
    type=click.Choice(["missing", "never", "always"]),
    help="Images with a registry in their name: got where missing, never, or once in any case.",
)
@click.option(
    "--registry-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Credentials for registries, as docker login writes them. [default: Docker's own]",
)
@click.option(
    "--preload",
    default="none",
    type=click.Choice(POLICIES),
    help="What waits before a call, for functions that do not say it themselves.",
)
@click.option(
    "--generic",
    default=2,
    type=click.IntRange(0),
    help="Generic sandboxes of a kind that wait, where the policy is runtime.",
)
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Of the node; repeatable.")
@click.option(
    "--installation",
    default="",
    metavar="ID",
    help="Label of its containers, one for all nodes. [default: made once in the data folder]",
)
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
@click.option("--index-url", metavar="URL", help="Where pip finds packages in builds.")
@click.option("--proxy", metavar="URL", help="The proxy of builds, for http and https.")
@click.option(
    "--ca-bundle",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of the authorities that builds trust.",
)
@click.option(
    "--build-env",
    multiple=True,
    type=Assignments(),
    metavar="NAME=VALUE",
    help="A variable of builds; repeatable.",
)
@click.option(
    "--grace", default=10.0, type=click.FloatRange(0), help="Seconds to finish at SIGTERM."
)
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--lifeline-fd", type=int, hidden=True)
@click.option(
    "--log-level", default="info", type=click.Choice(LEVELS), help="How much is logged."
)
@click.option("--log-format", default="text", type=click.Choice(FORMATS), help="Of each line.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve /metrics and /healthz there; 0: a free port. [default: nowhere]",
)
@click.option("--metrics-host", default="127.0.0.1", help="Address that they listen on.")
def main(
    *,
    name: str,
    api: str,
    pub: str | None,
    data: Path,
    slots: int | None,
    idle: float,
    keep_alive: KeepAlive,
    max_warm: int | None,
    max_starts: int | None,
    sandbox: str,
    transport: str,
    pull: PullPolicy,
    registry_config: Path | None,
    preload: Policy,
    generic: int,
    label: tuple[str, ...],
    installation: str,
    token: str,
    cache_bytes: int,
    build_timeout: float,
    index_url: str | None,
    proxy: str | None,
    ca_bundle: Path | None,
    build_env: tuple[str, ...],
    grace: float,
    ready_fd: int | None,
    lifeline_fd: int | None,
    log_level: str,
    log_format: Format,
    metrics_port: int | None,
    metrics_host: str,
) -> None:
    """Run the functions of an api on this machine."""
    slots = slots or 2 * (os.cpu_count() or 1)
    max_warm = max(slots, max_warm or 2 * slots)
    started = Started(
        process="worker",
        node=name,
        ready_fd=ready_fd,
        lifeline_fd=lifeline_fd,
        log_level=log_level,
        log_format=log_format,
    )
    try:
        settings = Settings(
            name=_name(name, "a node cannot"),
            api=api,
            pub=pub or _next_port(api),
            slots=slots,
            pool=PoolSettings(
                max_warm=max_warm,
                idle_s=idle,
                keep_alive=keep_alive,
                starts=max_starts or min(4, max(2, os.cpu_count() or 1)),
            ),
            labels=dict(_label(text) for text in label),
            installation=_name(installation, "an installation cannot") if installation else "",
            token=token,
            cache_bytes=cache_bytes,
            build_s=build_timeout,
            reach=Reach(
                index_url=index_url or "",
                proxy=proxy or "",
                ca_bundle=str(ca_bundle.resolve()) if ca_bundle else "",
                env=dict(assignment(text) for text in build_env),
            ),
            grace_s=grace,
            transport=transport,
            pull=pull,
            registry_config=str(registry_config.resolve()) if registry_config else "",
            preload=preload,
            generic=generic,
            log_level=log_level,
            log_format=log_format,
            scrape=Place(metrics_host, metrics_port),
        )
        run(lambda stop: serve(settings, data, sandbox, started, stop), started)
    except SkepError as error:
        refuse(error, started)


async def serve(
    settings: Settings, data: Path, sandbox: str, started: Started, stop: asyncio.Event
) -> None:
    """Be the node until ``stop`` is set."""
    boot = secrets.token_hex(8)
    folder = NodeFolder(data, settings.name, boot, settings.installation)
    folder.open()
    try:
        kept = await asyncio.to_thread(authorities.keep, settings.reach.ca_bundle, folder)
        settings = replace(settings, reach=replace(settings.reach, ca_bundle=kept))
        kind = await asyncio.to_thread(choose, sandbox, folder, boot, settings.transport)
        kind = with_credentials(kind, settings.registry_config)
        node = Node(settings, folder, boot, kind)
        metrics = Metrics(node, folder, settings.name)
        async with scraped(settings.scrape, metrics.page) as url:
            node.start()
            started.announce(
                name=settings.name,
                node=folder.node_id,
                sandbox=kind.driver,
                isolation=kind.isolation,
                slots=settings.slots,
                metrics=url,
            )
            await stop.wait()
            await node.stop()
    finally:
        folder.close()


def _name(text: str, what: str) -> str:
    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError as error:
        raise BadRequest(
            f"{what} be called {text!r}",
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
