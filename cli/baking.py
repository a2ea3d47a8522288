"""What an image is made of that a function is baked into: pure, the two records in, texts out.

Installing happens in an image of its own, of which the final one takes the result alone: how
package indexes are reached, and with what credentials, stays in the first.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from wire import baked, inside
from wire.errors import BadRequest
from wire.models import Function, Model, Runtime, Spec

#: In the folder that an image is built from, and in the image that installs.
CODE: Final = "code"
GIVEN: Final = "given"
PARTS: Final = "parts"
INSTALL: Final = "install.sh"
GIVEN_INSIDE: Final = "/opt/given"
#: The label of all that is only there to install.
STAGE: Final = "skep.stage"
#: Who a function is where its image only says root, or nothing; as on nodes.
NOBODY: Final = "65532:65532"
#: As a miniworker has it.
_LIMITS: Final = {"result": 6 << 20, "head": 64 << 10, "tail": 64 << 10}
_ROOT: Final = re.compile(r"(|0|root)(:.*)?")
_SHEBANG: Final = "#!/usr/bin/env python3\n"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A function with its runtime, and whose processes will be in the image."""

    spec: Spec
    user: str = NOBODY

    @property
    def path(self) -> str:
        """Return where the code is shown, inside."""
        return inside.path_inside(self.spec.runtime.path)


def recipe(function: Mapping[str, Any], runtime: Mapping[str, Any], user: str) -> Recipe:
    """Return the recipe of what the api answers; ``user`` is that of the runtime's image."""
    spec = Spec(function=_model(Function, function), runtime=_model(Runtime, runtime))
    return Recipe(spec, NOBODY if _ROOT.fullmatch(user) else user)


def _model(model: type[Model], said: Mapping[str, Any]) -> Any:
    known = {field.encode_name for field in msgspec.structs.fields(model)}
    return msgspec.convert({k: v for k, v in said.items() if k in known}, model)


def dockerfile(one: Recipe, stage: str) -> str:
    """Return the Dockerfile; ``stage`` names this build's image that installs.

    Raises:
        BadRequest: the environment of the runtime cannot be said in one.
    """
    image, path = _text(one.spec.runtime.image), one.path
    place = _text(path)
    ready = f"mkdir -p {shlex.quote(path)} && find {shlex.quote(path)} -mindepth 1 -delete"
    lines = [
        f"FROM {image} AS installed",
        f'LABEL {STAGE}="{stage}"',
        "USER 0:0",
        _env(_environment(one)),
        _run(f"{ready} && chown {NOBODY} {shlex.quote(path)}"),
        f'COPY --chown={NOBODY} ["{CODE}", "{place}/"]',
        f'COPY --chown={NOBODY} ["{GIVEN}", "{GIVEN_INSIDE}/"]',
        f"USER {NOBODY}",
        f'RUN ["sh", "{GIVEN_INSIDE}/{INSTALL}"]',
        f"FROM {image}",
        "USER 0:0",
        f'COPY ["{PARTS}", "{baked.FOLDER}/"]',
        f'COPY --from=installed ["{place}", "{baked.BUNDLE}/"]',
        _run(f"perl -e 1 && {ready} && chown {shlex.quote(one.user)} {shlex.quote(path)}"),
        _env(_environment(one) | _names(one)),
        f'LABEL {baked.LABEL}="{baked.digest(one.spec)}"',
        f"USER {one.user}",
        # The image's own CMD is none of it any more.
        f'ENTRYPOINT ["perl", "{baked.FOLDER}/entry.pl"]',
    ]
    return "\n".join(lines) + "\n"


def install(one: Recipe, env: Mapping[str, str]) -> str:
    """Return the script that installs the dependencies, where the code is."""
    exported = [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    command = shlex.quote(one.spec.runtime.dependencies or "true")
    lines = ["set -eu", *exported, f"cd {shlex.quote(one.path)}", f"sh -c {command}"]
    # Another user will read it.
    return "\n".join([*lines, "chmod -R a+rX ."]) + "\n"


def init(one: Recipe) -> str:
    """Return what the agent is told, but for the environment, which the container has."""
    function = one.spec.function
    said = {
        "type": "init",
        "path": one.path,
        "bundle": baked.BUNDLE,
        "run": one.spec.run,
        "entry": function.entry or "",
        "isolation": function.isolation,
        "limits": _LIMITS,
    }
    # Without spaces, as a miniworker has it: not every agent has a parser.
    return msgspec.json.encode(said).decode()


def agent(source: str) -> str:
    """Return an agent as a program that can be started by its name."""
    return source if source.startswith("#!") else _SHEBANG + source


def _run(script: str) -> str:
    return f"RUN {json.dumps(['sh', '-c', script])}"


def _environment(one: Recipe) -> dict[str, str]:
    # What stands for these two is the image's own, which the engine puts in.
    own = inside.environment("@", {"PATH": "@PATH", "LANG": "@LANG"})
    shown = {
        name: _text(value)
        .replace("@PATH", f"${{PATH:-{inside.PROGRAMS}}}")
        .replace("@LANG", "${LANG:-C.UTF-8}")
        .replace("@", _text(one.path))
        for name, value in own.items()
    }
    return shown | {name: _text(value) for name, value in one.spec.runtime.env.items()}


def _names(one: Recipe) -> dict[str, str]:
    function = one.spec.function
    return {
        "SKEP_FUNCTION": function.function_name,
        "SKEP_REVISION": str(function.revision),
        "SKEP_TIMEOUT": f"{function.timeout:g}",
    }


def _env(pairs: Mapping[str, str]) -> str:
    """Return all in one step: an engine takes a while for each."""
    return "ENV " + " ".join(f'{name}="{value}"' for name, value in pairs.items())


def _text(text: str) -> str:
    """Return a text as it stands between quotes in a Dockerfile."""
    if "\n" in text or "\r" in text:
        raise BadRequest(
            "a path or a variable of the runtime has a line break in it",
            hint="no Dockerfile can say that: leave it out of the runtime's env",
        )
    return re.sub(r'([\\"$])', r"\\\1", text)
