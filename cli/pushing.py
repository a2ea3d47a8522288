"""``skep runtime push`` and ``skep function push``: images to where nodes get them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from cli.display import working
from cli.naming import FUNCTION, RUNTIME
from cli.options import Command, Target, connected, print_json, shared
from wire.images import registry_of
from wire.transfers import Transfer

if TYPE_CHECKING:
    from cli.images import Images

#: What registering a runtime takes; the rest of a record is the api's.
_FIELDS = (
    "name", "image", "path", "dependencies", "run", "contract", "agent", "env", "network",
    "description",
)  # fmt: skip

tag_option = click.option(
    "--tag", metavar="REGISTRY/NAME:TAG", help="What the image is called there."
)
registry_option = click.option(
    "--registry", metavar="HOST[:PORT]", help="Where to; the image keeps its own name there."
)


@click.command("push", cls=Command)
@click.argument("name", type=RUNTIME)
@tag_option
@registry_option
@shared()
@click.pass_context
def push_runtime(ctx: click.Context, name: str, tag: str | None, registry: str | None) -> None:
    """Put a runtime's image into a registry.

    The runtime is registered with its name there, and a node pulls it when the first call
    comes. Credentials are those of docker login.
    """
    with connected(ctx) as (target, client):
        found: dict[str, Any] = dict(client.runtime(name))
        found["image"] = _pushed(target, found["image"], tag, registry)
        answer = client.register_runtime({key: found[key] for key in _FIELDS})
    print_json(answer) if target.json else click.echo(answer["image"])
    target.say(f"runtime {answer['name']}, revision {answer['revision']}")


@click.command("push", cls=Command)
@click.argument("name", type=FUNCTION)
@tag_option
@registry_option
@shared()
@click.pass_context
def push_function(ctx: click.Context, name: str, tag: str | None, registry: str | None) -> None:
    """Put a function's image into a registry.

    That is the image that it is, or the one that skep function build made of it; nodes take
    it from there.
    """
    with connected(ctx) as (target, client):
        found: Any = client.get_function(name)
        own, made = found.get("image"), found.get("bakedImage")
        if not (own or made):
            raise click.UsageError(
                f"{name} has no image; make one: skep function build {name} --tag NAME:TAG"
            )
        image = _pushed(target, own or made, tag, registry)
        # The one is what the function is; the other a way to start it.
        changed: Any = {"image" if own else "bakedImage": image}
        answer = client.update_function(name, **changed)
    print_json(answer) if target.json else click.echo(image)
    target.say(f"function {name}, revision {answer['revision']}")


def check(name: str, instead: str = "") -> None:
    """Refuse a name that would be pushed to wherever an engine takes it to.

    Raises:
        click.UsageError: it names no registry; ``instead`` is another way to say one.
    """
    if not registry_of(name):
        raise click.UsageError(
            f"where to? {name!r} names no registry: {instead}--tag HOST:PORT/NAME:TAG"
        )


def push(images: Images, name: str) -> None:
    """Put an image where its name says, before the eyes of who waits."""
    transfer = Transfer()
    with working(f"pushing {name}") as work:
        for line in images.push(name):
            if transfer.take(line):
                work.text = f"pushing {name}: {transfer.percent} %"


def _pushed(target: Target, image: str, tag: str | None, registry: str | None) -> str:
    """Push an image by the name that it shall have; return that."""
    from cli.images import Images  # noqa: PLC0415 - loads an HTTP stack, for this alone

    name = _name(image, tag, registry)
    with closing(Images()) as images:
        images.tag(image, name)
        push(images, name)
    target.say(f"pushed {name}")
    return name


def _name(image: str, tag: str | None, registry: str | None) -> str:
    if tag and registry:
        raise click.UsageError("--tag says it all: leave out --registry")
    if registry:
        tag = f"{registry}/{image.removeprefix(registry_of(image) + '/')}"
    name = tag or image
    check(name, "--registry HOST:PORT, or ")
    return name
