"""``skep completion``: what a shell needs to complete commands, options and names."""

from __future__ import annotations

from typing import Any, Final

import click
from click.shell_completion import get_completion_class

from cli.options import Command, shared

VARIABLE: Final = "_SKEP_COMPLETE"


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@shared()
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    It also completes the names of functions and runtimes and the numbers of calls, by asking
    the api; if that is away, nothing is offered.

    \b
      ~/.bashrc                    source <(skep completion bash)
      ~/.zshrc, after compinit     source <(skep completion zsh)
      ~/.config/fish/config.fish   skep completion fish | source
    """  # noqa: D301 (click wants the character)
    made: Any = get_completion_class(shell)
    click.echo(made(ctx.find_root().command, {}, "skep", VARIABLE).source())
