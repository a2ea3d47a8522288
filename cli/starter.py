"""``skep function new``: a folder to begin a function with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from cli.options import Command, print_json, say, shared, target_of

TEMPLATES: Final = Path(__file__).resolve().parent / "templates"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def _languages() -> list[str]:
    return sorted(path.name for path in TEMPLATES.iterdir() if path.is_dir())


@click.command(cls=Command)
@click.argument("name")
@click.option("--runtime", type=click.Choice(_languages()), default="python",
              show_default=True, help="What it is written in.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where.  [default: NAME]")
@shared()
@click.pass_context
def new(ctx: click.Context, name: str, runtime: str, output: Path | None) -> None:
    """Write a folder to begin a function with.

    It holds a handler, its test, requirements.txt, a README, and skep.json.
    """
    if not _NAME.fullmatch(name):
        raise click.UsageError(
            f"{name!r} is no name of a function: letters, digits and . _ : - after the first"
        )
    folder = output or Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.UsageError(f"{folder} is there already and not empty")
    written = _write(TEMPLATES / runtime, folder, name)
    if target_of(ctx).json:
        print_json({"folder": str(folder), "files": written})
        return
    click.echo(folder)
    say(f"written: {', '.join(written)}\nnext:    cd {folder} && skep dev .")


def _write(template: Path, folder: Path, name: str) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in template.iterdir() if path.is_file())
    for path in files:
        text = path.read_text(encoding="utf-8").replace("{{name}}", name)
        (folder / path.name).write_text(text, encoding="utf-8")
    return [path.name for path in files]
