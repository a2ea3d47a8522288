"""What HTTP requests carry, as models: the one place that says which fields there are.

Unknown fields are refused and named by msgspec; ranges and patterns come from ``wire.models``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.catalogue import RESERVED_RUNTIME
from wire.errors import BadRequest
from wire.models import (
    NAME_PATTERN,
    Count,
    Function,
    MaxWait,
    Model,
    Name,
    Number,
    Package,
    Runtime,
    Timeout,
    no_params,
)

Agent = Literal["python", "node", "php", "shell", "none"]
#: A text that says something.
Said = Annotated[str, Meta(min_length=1)]
_AGENTS: Final[dict[str, Agent]] = {
    "python": "python",
    "python3": "python",
    "node": "node",
    "nodejs": "node",
    "php": "php",
    "sh": "shell",
    "bash": "shell",
}
#: Enough for every honest value; what nests deeper breaks parsers on its way.
MAX_DEPTH: Final = 200


class RegisterRuntime(Model, frozen=True, kw_only=True):
    """POST /registerRuntime."""

    image: Annotated[str, Meta(min_length=1)]
    path: Annotated[str, Meta(pattern=r"^/.*")]
    dependencies: str = ""
    run: str = ""
    name: Name | None = None
    contract: Literal["agent", "image", "http", "qinling"] = "agent"
    agent: Agent | None = None
    env: dict[str, str] = {}
    network: bool = False
    description: str = ""

    def runtime(self, uuid: str, at: str) -> Runtime:
        """Return the runtime that this body describes.

        Raises:
            BadRequest: no name is given and none can be made of the image, or it is reserved.
        """
        return Runtime(
            name=_free(self.name or name_of(self.image)),
            image=self.image,
            path=self.path,
            dependencies=self.dependencies,
            run=self.run,
            contract=self.contract,
            agent=self.agent or agent_of(self.run),
            env=self.env,
            network=self.network,
            description=self.description,
            id=uuid,
            created_at=at,
            updated_at=at,
        )


class FunctionSettings(Model, frozen=True, kw_only=True):
    """The text fields, or JSON keys, of POST /registerFunction beside ``module``.

    ``entry`` (a handler) and ``run`` (a command) exclude each other.
    """

    entry: Said | None = None
    run: Said | None = None
    timeout: Timeout = 5.0
    memory: Annotated[int, Meta(ge=4, le=1_048_576)] = 256
    cpu: Annotated[float, Meta(gt=0, le=1024)] | None = None
    env: dict[str, str] = {}
    network: bool = False
    idempotent: bool = False
    retries: Annotated[int, Meta(ge=0, le=100)] = 0
    isolation: Literal["none", "fork"] = "none"
    preload: Literal["none", "runtime", "function", "image"] | None = None
    min_warm: Count | None = None
    max_warm: Count | None = None
    idle: Annotated[float, Meta(ge=0)] | None = None
    max_concurrency: Number | None = None
    max_wait: MaxWait = 600.0
    description: str = ""

    def function(
        self, *, name: str, runtime: str, package: Package, uuid: str, at: str
    ) -> Function:
        """Return the function that these settings describe."""
        return Function(
            function_name=name,
            runtime_name=runtime,
            package=package,
            id=uuid,
            created_at=at,
            updated_at=at,
            **{field: getattr(self, field) for field in self.__struct_fields__},
        )


class InvokeFunction(Model, frozen=True, kw_only=True):
    """POST /invokeFunction. The params stay the bytes that they came as."""

    func_name: Name
    params: msgspec.Raw = msgspec.field(default_factory=no_params)
    timeout: Timeout | None = None
    max_wait: MaxWait | None = None
    revision: Number | None = None


def _patch_model() -> type[Model]:
    """Return the settings of a function as a merge patch: each may be absent, or null."""
    fields: list[Any] = [
        (field.name, field.type | None | UnsetType, UNSET)
        for field in msgspec.structs.fields(FunctionSettings)
    ]
    made = msgspec.defstruct(
        "FunctionPatch", fields, bases=(Model,), frozen=True, kw_only=True, module=__name__
    )
    made.__doc__ = (
        "PATCH /functions/NAME: what is absent stays as it is, null is the default again."
    )
    return cast("type[Model]", made)


#: Made of ``FunctionSettings``: a setting is said once.
FunctionPatch: Final = _patch_model()

B = TypeVar("B")
_DECODERS: Final[dict[type, msgspec.json.Decoder[Any]]] = {}


def read(model: type[B], body: bytes) -> B:
    """Read a JSON body as a model.

    Raises:
        BadRequest: it is no JSON in UTF-8, or does not fit; the field is named.
    """
    decoder: msgspec.json.Decoder[B] = _DECODERS.setdefault(model, msgspec.json.Decoder(model))
    try:
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise _explained(error) from error


def read_settings(fields: dict[str, Any]) -> FunctionSettings:
    """Read the fields beside ``module``: text is converted, ``env`` is a JSON object."""
    settings = _converted(fields, FunctionSettings)
    _check_way(settings.entry, settings.run)
    return settings


def read_patch(said: bytes | dict[str, Any]) -> dict[str, Any]:
    """Return the settings that a patch changes, null ones as their defaults.

    ``said`` is a JSON body, or the fields of a form: there the text ``null`` is null.
    """
    if isinstance(said, bytes):
        patch = read(FunctionPatch, said)
    else:
        plain = {name: None if value == "null" else value for name, value in said.items()}
        patch = _converted(plain, FunctionPatch)
    given = {name: getattr(patch, name) for name in patch.__struct_fields__}
    given = {name: value for name, value in given.items() if value is not UNSET}
    _check_way(given.get("entry"), given.get("run"))
    defaults = FunctionSettings()
    return {
        name: getattr(defaults, name) if value is None else value
        for name, value in given.items()
    }


def patched(
    before: Function, patch: dict[str, Any], package: Package | None, at: str
) -> Function:
    """Return a function as a patch changes it; a new way to run it replaces the other."""
    way: dict[str, Any] = {}
    if patch.get("entry") is not None:
        way = {"run": None}
    elif patch.get("run") is not None:
        way = {"entry": None}
    changes = {**patch, **way, "package": package, "updated_at": at}
    return msgspec.structs.replace(before, **changes)


def _converted(fields: dict[str, Any], model: type[B]) -> B:
    plain = dict(fields)
    try:
        if isinstance(plain.get("env"), str):
            plain["env"] = msgspec.json.decode(plain["env"], type=dict[str, str])
        return msgspec.convert(plain, model, strict=False)
    except (ValueError, RecursionError) as error:
        raise _explained(error) from error


def _check_way(entry: str | None, run: str | None) -> None:
    if entry is not None and run is not None:
        raise BadRequest(
            "entry and run exclude each other",
            hint="entry names a handler (module.function), run a command: choose one",
        )


def name_of(image: str) -> str:
    """Return the name of a runtime that gives none: the image's last path component."""
    name = image.rpartition("/")[2]
    if not re.match(NAME_PATTERN, name):
        raise BadRequest(
            f"no runtime name can be made of image {image[:200]!r}",
            hint='say one: {"name": "my-runtime", …}',
        )
    return name


def _free(name: str) -> str:
    if name == RESERVED_RUNTIME:
        raise BadRequest(
            f"the runtime name {name!r} is reserved for functions that are images",
            hint='give this runtime another name: {"name": "my-runtime", …}',
        )
    return name


def agent_of(run: str) -> Agent:
    """Return the agent that the first word of a run command asks for."""
    first = run.split(maxsplit=1)[0] if run.strip() else ""
    return _AGENTS.get(first.rpartition("/")[2], "none")


def check_depth(params: bytes) -> None:
    """Refuse params that nest deeper than parsers on their way can bear.

    Raises:
        BadRequest: they do.
    """
    # Counting brackets is far cheaper than parsing, and enough for nearly every call.
    if params.count(b"[") + params.count(b"{") <= MAX_DEPTH:
        return
    depth = deepest = 0
    for byte in msgspec.json.encode(_skeleton(params)):
        depth += (byte == 0x5B) - (byte == 0x5D)
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise BadRequest(
            f"params nest deeper than {MAX_DEPTH} levels", hint="flatten them, or send text"
        )


def _skeleton(params: bytes) -> Any:
    """Return the nesting of params alone, as lists."""

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return [of(one) for one in value.values()]
        return [of(one) for one in value] if isinstance(value, list) else 0

    try:
        return of(msgspec.json.decode(params))
    except RecursionError as error:
        raise _explained(error) from error


def _explained(error: Exception) -> BadRequest:
    return BadRequest(
        f"the request does not fit: {error}",
        hint="GET /docs shows each field; names are camelCase",
    )
