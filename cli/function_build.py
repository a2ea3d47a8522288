"""``skep function build``: one image with runtime, code, dependencies and agent in it."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli import baking
from cli.bases import NoImage
from cli.building import build_options
from cli.naming import FUNCTION
from cli.options import Command, Target, connected, print_json, shared
from cli.pushing import check as check_registry
from cli.pushing import push as push_image
from cli.runtime import RUNTIMES
from wire import archive
from wire.errors import BadRequest
from wire.reach import Reach, assignment

if TYPE_CHECKING:
    from cli.images import Images

#: The program of such an image, beside the runtimes that skep comes with.
ENTRY: Final = RUNTIMES / "image" / "entry.pl"


@click.command(cls=Command)
@click.argument("name", type=FUNCTION)
@click.option(
    "--tag", required=True, metavar="[REGISTRY/]NAME:TAG", help="What the image is called."
)
@click.option("--push", is_flag=True, help="Put it into the registry that its name says.")
@click.option("--network", metavar="MODE", help="The build's network, such as host.")
@build_options
@shared()
@click.pass_context
def build(
    ctx: click.Context,
    name: str,
    tag: str,
    push: bool,
    network: str | None,
    index_url: str | None,
    proxy: str | None,
    ca_bundle: Path | None,
    build_env: Sequence[str],
) -> None:
    """Bake a function into an image.

    Its runtime, code and dependencies, and their agent: docker run IMAGE '{"roll": "4d6"}'
    prints the result, docker run -p 5000:5000 IMAGE serves it over HTTP, where no skep is.
    Nodes start it if the function's preload is image.
    """
    from cli.images import Images  # noqa: PLC0415 - loads an HTTP stack, for this command alone

    if push:
        check_registry(tag)
    with _refusing():
        reach = Reach(
            index_url=index_url or "",
            proxy=proxy or "",
            ca_bundle=str(ca_bundle.resolve()) if ca_bundle else "",
            env=dict(assignment(text) for text in build_env),
        )
    with connected(ctx) as (target, client), tempfile.TemporaryDirectory() as place:
        found: Any = client.get_function(name)
        if found.get("image"):
            raise click.UsageError(f"{name} is an image already: skep function push {name}")
        runtime = client.runtime(found["runtimeName"])
        if runtime["contract"] != "agent":
            raise click.UsageError(
                f"{name} has no agent that could be baked: the contract of its runtime is "
                f"{runtime['contract']!r}"
            )
        package = Path(place, "package")
        client.download_function(name, package, found["revision"])
        folder = Path(place, "image")
        folder.mkdir()
        archive.unpack(package, folder / baking.CODE)
        with closing(Images()) as images:
            _have(images, runtime["image"])
            recipe = baking.recipe(found, runtime, images.user(runtime["image"]))
            stage = secrets.token_hex(8)
            _write(folder, recipe, stage, reach.environment(os.environ))
            try:
                for text in images.build(folder, tag, {}, network):
                    click.echo(text, nl=False, err=True)
            finally:
                images.forget(f"{baking.STAGE}={stage}")
            if push:
                push_image(images, tag)
        answer = client.update_function(name, bakedImage=tag, prepare=False)
    _tell(target, answer, found.get("env") or {})


def _tell(target: Target, answer: Any, env: dict[str, str]) -> None:
    print_json(answer) if target.json else click.echo(answer["bakedImage"])
    name = answer["functionName"]
    target.say(f"function {name}, revision {answer['revision']}: image {answer['bakedImage']}")
    if env:
        names = ", ".join(sorted(env))
        target.say(f"its env is not in the image: docker run --env says {names}")
    if answer["preload"] != "image":
        target.say(f"nodes start it after: skep function update {name} --preload image")


def _have(images: Images, image: str) -> None:
    if images.has(image):
        return
    if why := images.pull(image):
        raise NoImage(
            f"the runtime's image {image!r} is neither here nor can it be pulled: {why}",
            hint="skep runtime build makes those that skep comes with",
        )


def _write(folder: Path, recipe: baking.Recipe, stage: str, env: dict[str, str]) -> None:
    """Write all that the image is built from, but for the code, which is there."""
    given, parts = folder / baking.GIVEN, folder / baking.PARTS
    given.mkdir()
    parts.mkdir()
    moved = dict(_given(given, env))
    (given / baking.INSTALL).write_text(baking.install(recipe, moved))
    (parts / "entry.pl").write_bytes(ENTRY.read_bytes())
    (parts / "init.json").write_text(baking.init(recipe))
    program = parts / "agent"
    program.write_text(baking.agent(_agent(recipe.spec.runtime.agent).read_text()))
    for path in (*parts.iterdir(), *given.iterdir()):
        path.chmod(0o644)
    program.chmod(0o755)
    with _refusing():
        (folder / "Dockerfile").write_text(baking.dockerfile(recipe, stage))


@contextmanager
def _refusing() -> Iterator[None]:
    """Say what cannot be baked as the command line says it."""
    try:
        yield
    except BadRequest as error:
        raise click.UsageError(f"{error.message}; {error.hint}") from error


def _given(given: Path, env: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the variables of the installer, with the files that they name put beside it."""
    for name, value in env.items():
        if value.startswith("/") and Path(value).is_file():
            (given / name).write_bytes(Path(value).read_bytes())
            yield name, f"{baking.GIVEN_INSIDE}/{name}"
        else:
            yield name, value


def _agent(name: str) -> Path:
    """Return the file of an agent; without one of its own a runtime has that of Python."""
    more = filter(None, os.environ.get("SKEP_RUNTIMES", "").split(":"))
    for folder in (RUNTIMES, *map(Path, more)):
        if found := sorted(folder.glob(f"{name}/agent.*")):
            return found[0]
    if name != "none":
        raise NoImage(
            f"there is no agent {name!r} here",
            hint=f"SKEP_RUNTIMES names a folder that has {name}/agent.EXT",
        )
    return _agent("python")
