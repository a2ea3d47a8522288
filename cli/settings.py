"""The settings of a function: as options, and in the ``skep.json`` of its folder.

The file spells them as HTTP does, and names the runtime beside them::

    {"runtime": "pythonruntime", "entry": "main.handler", "timeout": 30}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from cli.units import LABEL, MEMORY, SECONDS, VARIABLE
from wire.models import POLICIES

F = TypeVar("F", bound=Callable[..., Any])

FILE: Final = "skep.json"
_COUNT: Final = click.IntRange(0)
#: Option -> what click is told; the field in HTTP is its name in camelCase.
_OPTIONS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("--entry", {"help": "What is called: module.function of the package."}),
    ("--run", {"help": "The command that runs a call, instead of the runtime's."}),
    ("--timeout", {"type": SECONDS, "help": "How long one call may run, e.g. 30 or 2m."}),
    ("--memory", {"type": MEMORY, "help": "What a sandbox may use, e.g. 512 (MiB) or 1g."}),
    ("--cpu", {"type": click.FloatRange(0, min_open=True), "help": "Cores, e.g. 0.5."}),
    ("--env", {"type": VARIABLE, "multiple": True, "help": "A variable; may be repeated."}),
    ("--network/--no-network", {"help": "May it reach the network?"}),
    ("--idempotent/--not-idempotent", {"help": "May it run twice?"}),
    ("--retries", {"type": _COUNT, "help": "How often a call that failed is tried again."}),
    ("--isolation", {"type": click.Choice(["none", "fork"]), "help": "Between its calls."}),
    (
        "--preload",
        {
            "type": click.Choice(["none", "runtime", "function", "image"]),
            "help": "What waits before the first call: a sandbox, or the function loaded.",
        },
    ),
    ("--baked-image", {"help": "The image that it was baked into, for --preload image."}),
    ("--min-warm", {"type": _COUNT, "help": "Sandboxes with it loaded that each node keeps."}),
    ("--max-warm", {"type": _COUNT, "help": "Sandboxes of it that may wait on a node."}),
    ("--idle", {"type": SECONDS, "help": "How long a warm sandbox may idle."}),
    ("--max-concurrency", {"type": click.IntRange(1), "help": "Calls at once, in all."}),
    (
        "--concurrency",
        {"type": click.IntRange(1, 500), "help": "Calls at once in one sandbox, of a server."},
    ),
    ("--port", {"type": click.IntRange(1, 65_535), "help": "Where its server listens."}),
    ("--max-wait", {"type": SECONDS, "help": "In which time a call must have begun."}),
    ("--policy", {"type": click.Choice(POLICIES), "help": "Which node gets a call."}),
    (
        "--requires",
        {"type": LABEL, "multiple": True, "help": "A label that a node must have; repeatable."},
    ),
    ("--description", {"help": "What it is for."}),
)
FIELDS: Final = tuple(
    first.title().replace("-", "")[0].lower() + first.title().replace("-", "")[1:]
    for first in (option.split("/")[0].removeprefix("--") for option, _ in _OPTIONS)
)


def setting_options(function: F) -> F:
    """Add an option for each setting of a function; each is absent unless it is given."""
    for option, about in reversed(_OPTIONS):
        function = click.option(option, default=None, **about)(function)
    return function


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among the options that a user gave, as HTTP spells them."""
    found: dict[str, Any] = {}
    for field, (option, _) in zip(FIELDS, _OPTIONS, strict=True):
        name = option.split("/")[0].removeprefix("--").replace("-", "_")
        if (value := options.get(name)) not in (None, ()):
            found[field] = dict(value) if field in ("env", "requires") else value
    return found


def of_folder(folder: Path) -> dict[str, Any]:
    """Return what the ``skep.json`` of a folder says; nothing if there is none.

    Raises:
        click.UsageError: it is there and says something that is none.
    """
    path = folder / FILE
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise click.UsageError(f"{path} is not JSON: {error}") from error
    if not isinstance(said, dict):
        raise click.UsageError(f"{path} holds no JSON object")
    if unknown := sorted(said.keys() - {"runtime", *FIELDS}):
        raise click.UsageError(
            f"{path}: unknown {', '.join(unknown)}; it may hold runtime, {', '.join(FIELDS)}"
        )
    return said


def merged(from_file: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return both together; options win, ``env`` by variable, entry and run as one."""
    base = {key: value for key, value in from_file.items() if key != "runtime"}
    if "entry" in options or "run" in options:
        base.pop("entry", None)
        base.pop("run", None)
    env = {**base.get("env", {}), **options.get("env", {})}
    return {**base, **options, **({"env": env} if env else {})}
