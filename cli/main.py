"""``skep``: the group of all commands."""

from __future__ import annotations

from typing import Final

import click

from cli.options import Group, Target, shared
from wire.process import release

_NAMES: Final = (
    *("up", "demo", "invoke", "call", "runtime", "function", "worker"),
    *("db", "top", "dev", "doctor", "completion", "version"),
)
#: Imported when they are asked for: a call need not wait for what ``skep up`` needs.
_COMMANDS: Final = {name: f"cli.{name}:{name}" for name in _NAMES}


@click.group(cls=Group, later=_COMMANDS)
@click.version_option(release(), prog_name="skep")
@shared(at_root=True)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Functions as a service: one door, many workers, each call in its own cell."""
    ctx.ensure_object(Target)


if __name__ == "__main__":
    main()
