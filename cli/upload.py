"""``skep function register`` and ``update``: a folder or an archive, and its settings."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

import click

from cli import sending, settings
from cli.naming import FUNCTION, RUNTIME
from cli.options import Command, Target, print_json, shared, target_of
from cli.runtime import own
from skep import Client, Function, SkepError

PATH = click.Path(exists=True, path_type=Path)
prepare_option = click.option(
    "--prepare/--no-prepare",
    default=True,
    show_default=True,
    help="Install the dependencies now, and show how it goes.",
)


@click.command(cls=Command)
@click.argument("name", type=FUNCTION)
@click.argument("path", type=PATH, required=False)
@click.option("--runtime", type=RUNTIME, help="The runtime that it runs in.")
@click.option("--image", metavar="NAME:TAG", help="The function is this image; no PATH then.")
@click.option(
    "--contract",
    type=click.Choice(["image", "http"]),
    help="Of an --image: is it run for each call, or a server that is asked?",
)
@settings.setting_options
@prepare_option
@shared()
@click.pass_context
def register(
    ctx: click.Context,
    /,
    name: str,
    path: Path | None,
    runtime: str | None,
    image: str | None,
    contract: Literal["image", "http"] | None,
    prepare: bool,
    **options: Any,
) -> None:
    """Upload a folder or an archive as a function.

    PATH is a folder, or an archive (zip, tar, tar.gz). With --image there is none: the
    function is that image.

    A folder is packed without what its .gitignore and .skepignore leave out. Its skep.json,
    if there is one, names the runtime and settings; options win over it.

    \b
      skep function register dice --runtime pythonruntime ./dice
      skep function register run --image debian:bookworm-slim
      skep function register web --image my/server --contract http --concurrency 8
    """  # noqa: D301 (click wants the character)
    if image is not None:
        chosen = settings.given(options) | ({"contract": contract} if contract else {})
        _register_image(target_of(ctx), name, image, path or runtime, chosen)
        return
    if contract is not None:
        raise click.UsageError("--contract is that of an --image; code has its runtime's")
    if path is None:
        raise click.UsageError("what is it? a PATH to its code, or --image NAME:TAG")
    said = settings.of_folder(path)
    runtime = runtime or said.get("runtime")
    if not runtime:
        raise click.UsageError(f"which runtime? --runtime NAME, or runtime in {path}/skep.json")
    chosen = settings.merged(said, settings.given(options))
    target = target_of(ctx)
    with (
        target.client(sending.PATIENCE_S) as client,
        sending.archive_of(path, name, target.say) as archive,
        _helped(runtime),
    ):
        answer = sending.register(
            client, runtime, name, archive, chosen, prepare=prepare, is_heard=not target.json
        )
    _print(target, answer)


def _register_image(
    target: Target, name: str, image: str, other: Path | str | None, chosen: dict[str, Any]
) -> None:
    if other is not None:
        raise click.UsageError(f"--image says it all: leave out {other}")
    with target.client() as client:
        _print(target, client.register_image(name, image, **chosen))


@contextlib.contextmanager
def _helped(runtime: str) -> Any:
    """Say how a runtime that skep comes with is registered, if it is not yet."""
    try:
        yield
    except SkepError as error:
        meant = own(runtime) if error.code == "unknown_runtime" else None
        if meant is not None:
            source, name = meant
            known = "skep comes with it" if runtime == name else f"it is called {name}"
            error.hint = f"{known}: skep runtime register {source}"
        raise


@click.command(cls=Command)
@click.argument("name", type=FUNCTION)
@click.argument("path", type=PATH, required=False)
@click.option("--image", metavar="NAME:TAG", help="Another image, if the function is one.")
@settings.setting_options
@click.option("--unset", multiple=True, type=click.Choice(settings.FIELDS), metavar="SETTING",
              help="Set one back to its default; may be repeated.")  # fmt: skip
@prepare_option
@shared()
@click.pass_context
def update(
    ctx: click.Context,
    /,
    name: str,
    path: Path | None,
    image: str | None,
    unset: tuple[str, ...],
    prepare: bool,
    **options: Any,
) -> None:
    """Change the package of a function, its settings, or both.

    What is not named stays; --env adds to the variables that are there. Calls that were
    accepted before run as the function was then.

    \b
      skep function update dice --timeout 30
      skep function update dice ./dice
      skep function update run --image debian:trixie-slim
    """  # noqa: D301 (click wants the character)
    said = settings.of_folder(path) if path else {}
    chosen = settings.merged(said, settings.given(options))
    if image is not None:
        chosen["image"] = image
    if path is None and not chosen and not unset:
        raise click.UsageError("change what? give a PATH, or a setting such as --timeout 30")
    if twice := sorted(set(unset) & set(settings.given(options)) - {"env"}):
        raise click.UsageError(f"{twice[0]} is both given and unset")
    target = target_of(ctx)
    with target.client(sending.PATIENCE_S) as client:
        wanted = {**dict.fromkeys(unset), **_with_env(client, name, chosen, unset)}
        with contextlib.ExitStack() as stack:
            archive = (
                stack.enter_context(sending.archive_of(path, name, target.say))
                if path
                else None
            )
            answer = sending.update(
                client, name, archive, wanted, prepare=prepare, is_heard=not target.json
            )
    _print(target, answer)


def _with_env(
    client: Client, name: str, chosen: dict[str, Any], unset: tuple[str, ...]
) -> dict[str, Any]:
    if "env" not in chosen or "env" in unset:
        return chosen
    before: Any = client.get_function(name)
    return {**chosen, "env": {**before.get("env", {}), **chosen["env"]}}


def _print(target: Target, answer: Function) -> None:
    print_json(answer) if target.json else click.echo(answer["functionName"])
    target.say(f"function {answer['functionName']}, revision {answer['revision']}")
