"""What HTTP requests carry, as models: the one place that says which fields there are.

Unknown fields are refused and named by msgspec; ranges and patterns come from ``wire.models``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from wire.errors import BadRequest
from wire.models import (
    NAME_PATTERN,
    AgentName,
    Count,
    Function,
    MaxWait,
    Model,
    Name,
    Number,
    Package,
    Runtime,
    Timeout,
)

_AGENTS: Final = {
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
    agent: AgentName | None = None
    env: dict[str, str] = {}
    network: bool = False
    description: str = ""

    def runtime(self, uuid: str, at: str) -> Runtime:
        """Return the runtime that this body describes.

        Raises:
            BadRequest: no name is given and none can be made of the image.
        """
        return Runtime(
            name=self.name or name_of(self.image),
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
    """The text fields, or JSON keys, of POST /registerFunction beside ``module``."""

    entry: str | None = None
    run: str | None = None
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
    params: msgspec.Raw = msgspec.Raw(b"{}")
    timeout: Timeout | None = None
    max_wait: MaxWait | None = None
    revision: Number | None = None


B = TypeVar("B")
_RUNTIME: Final = msgspec.json.Decoder(RegisterRuntime)
_INVOKE: Final = msgspec.json.Decoder(InvokeFunction)


def read_runtime(body: bytes) -> RegisterRuntime:
    """Read POST /registerRuntime."""
    return _read(_RUNTIME, body)


def read_invocation(body: bytes) -> InvokeFunction:
    """Read POST /invokeFunction; its params are valid JSON in UTF-8, of sane depth."""
    read = _read(_INVOKE, body)
    _check_depth(bytes(read.params))
    return read


def read_settings(fields: dict[str, Any]) -> FunctionSettings:
    """Read the fields beside ``module``: text is converted, ``env`` is a JSON object."""
    plain = dict(fields)
    try:
        if isinstance(plain.get("env"), str):
            plain["env"] = msgspec.json.decode(plain["env"], type=dict[str, str])
        return msgspec.convert(plain, FunctionSettings, strict=False)
    except (ValueError, RecursionError) as error:
        raise _explained(error) from error


def name_of(image: str) -> str:
    """Return the name of a runtime that gives none: the image's last path component."""
    name = image.rpartition("/")[2]
    if not re.match(NAME_PATTERN, name):
        raise BadRequest(
            f"no runtime name can be made of image {image[:200]!r}",
            hint='say one: {"name": "my-runtime", …}',
        )
    return name


def agent_of(run: str) -> str:
    """Return the agent that the first word of a run command asks for."""
    first = run.split(maxsplit=1)[0] if run.strip() else ""
    return _AGENTS.get(first.rpartition("/")[2], "none")


def _read(decoder: msgspec.json.Decoder[B], body: bytes) -> B:
    try:
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise _explained(error) from error


def _check_depth(params: bytes) -> None:
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
        hint="docs/protocol.md and the README show each field; names are camelCase",
    )
