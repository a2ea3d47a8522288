"""``skep runtime build``: the image of a runtime is made, and the runtime registered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.bases import ensure_base
from cli.options import Command, Target, connected, print_json, shared
from cli.runtime import RUNTIMES, load, shipped

if TYPE_CHECKING:
    from cli.images import Images

_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "ftp_proxy", "all_proxy")
#: The kernel refuses to start a program with a longer word in its environment.
_MOST_CA_BYTES: Final = 100 << 10


@click.command(cls=Command)
@click.argument("source", metavar="NAME|DIR")
@click.option("--tag", metavar="IMAGE", help="The image's name [runtime.json's image].")
@click.option(
    "--build-arg",
    "arguments",
    metavar="NAME=VALUE",
    multiple=True,
    help="A build argument, such as BASE=debian:trixie-slim.",
)
@click.option(
    "--ca-bundle",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Certificates that the image shall trust, while it is made too.",
)
@click.option("--network", metavar="MODE", help="The build's network, such as host.")
@shared()
@click.pass_context
def build(
    ctx: click.Context,
    source: str,
    tag: str | None,
    arguments: tuple[str, ...],
    ca_bundle: str | None,
    network: str | None,
) -> None:
    """Make a runtime's image and register the runtime.

    NAME is one that skep comes with; DIR has a Dockerfile and a runtime.json.
    """
    from cli.images import Images  # noqa: PLC0415 - loads an HTTP stack, for this command alone

    folder = _folder(source)
    description = load(str(folder / "runtime.json"))
    description["image"] = tag or description["image"]
    given = _given(arguments, ca_bundle)
    with connected(ctx) as (target, client):
        # Before the minutes of a build: there is somebody to register it with.
        client.health()
        with closing(Images()) as images:
            ensure_base(images, folder, given)
            _build(images, folder, description["image"], given, network)
        answer = client.register_runtime(description)
    _tell(target, answer)


def _tell(target: Target, answer: Any) -> None:
    print_json(answer) if target.json else click.echo(answer["name"])
    target.say(
        f"runtime {answer['name']}, revision {answer['revision']}: image {answer['image']}"
    )


def _folder(source: str) -> Path:
    own = RUNTIMES / source
    folder = own if "/" not in source and (own / "Dockerfile").is_file() else Path(source)
    for name in ("Dockerfile", "runtime.json"):
        if not (folder / name).is_file():
            raise click.BadParameter(
                f"{source} is neither a runtime that skep comes with ({', '.join(shipped())}) "
                f"nor a folder that has a {name}"
            )
    return folder


def _given(arguments: tuple[str, ...], ca_bundle: str | None) -> dict[str, str]:
    """Return the build arguments: this shell's proxies, then what the command line says."""
    found = {name: os.environ[name] for one in _PROXIES for name in _spelled(one)}
    if ca_bundle is not None:
        found["CA"] = _certificates(Path(ca_bundle))
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not name or not equals:
            raise click.BadParameter(
                f"{argument!r} is not NAME=VALUE", param_hint="--build-arg"
            )
        found[name] = value
    return found


def _spelled(name: str) -> Iterator[str]:
    return (one for one in (name, name.upper()) if one in os.environ)


def _certificates(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if len(text) > _MOST_CA_BYTES:
        raise click.BadParameter(
            f"{path} has {len(text)} bytes; give the certificate of your own authority alone, "
            "as the image has the public ones",
            param_hint="--ca-bundle",
        )
    return text


def _build(
    images: Images, folder: Path, tag: str, given: dict[str, str], network: str | None
) -> None:
    for text in images.build(folder, tag, given, network):
        click.echo(text, nl=False, err=True)
