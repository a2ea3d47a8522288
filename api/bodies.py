"""What HTTP requests carry, as models: the one place that says which fields there are.

Unknown fields are refused and named by msgspec; ranges and patterns come from ``wire.models``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from wire import images
from wire.errors import BadRequest
from wire.models import (
    DEFAULT_PORT,
    NAME_PATTERN,
    AgentName,
    Concurrency,
    Count,
    Function,
    Key,
    MaxWait,
    Model,
    Name,
    Number,
    Package,
    PolicyName,
    Port,
    Runtime,
    Strict,
    Timeout,
    no_params,
)

#: A text that says something.
Said = Annotated[str, Meta(min_length=1)]


def _says(text: str) -> Meta:
    """Return what the documents say about a field."""
    return Meta(description=text)


_AGENTS: Final = {
    "python": "python",
    "python3": "python",
    "node": "node",
    "nodejs": "node",
    "php": "php",
    "sh": "shell",
    "bash": "shell",
}


class RegisterRuntime(Strict, frozen=True, kw_only=True):
    """POST /registerRuntime."""

    #: What reading checks beyond the fields, as JSON Schema.
    also: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"required": ["name"], "properties": {"name": {"type": "string"}}},
            {"properties": {"image": {"pattern": "(^|/)" + NAME_PATTERN.lstrip("^")}}},
        ]
    }

    image: Annotated[Said, _says("the container image; its last part is the default name")]
    path: Annotated[str, Meta(pattern=r"^/.*"), _says("where code is put, and runs")]
    dependencies: Annotated[str, _says("the command that installs them, once a package")] = ""
    run: Annotated[str, _says("the command that runs a call")] = ""
    name: Name | None = None
    contract: Literal["agent", "image", "http", "qinling"] = "agent"
    agent: Annotated[AgentName, _says("null: told by the first word of run")] | None = None
    env: Annotated[dict[str, str], _says("environment of installer and calls")] = {}
    network: Annotated[bool, _says("may its functions use the network")] = False
    description: Annotated[str, _says("for people")] = ""

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


class FunctionSettings(Strict, frozen=True, kw_only=True):
    """The text fields, or JSON keys, of POST /registerFunction beside ``module``.

    ``entry`` (a handler) and ``run`` (a command) exclude each other.
    """

    also: ClassVar[dict[str, Any]] = {
        "not": {
            "required": ["entry", "run"],
            "properties": {"entry": {"type": "string"}, "run": {"type": "string"}},
        }
    }

    entry: Annotated[Said, _says("the handler: module.function")] | None = None
    run: Annotated[Said, _says("the command; else the runtime's")] | None = None
    timeout: Annotated[Timeout, _says("seconds that one attempt may run")] = 5.0
    memory: Annotated[int, Meta(ge=4, le=1_048_576), _says("MiB")] = 256
    cpu: Annotated[float, Meta(gt=0, le=1024), _says("cores; null: a share")] | None = None
    env: Annotated[dict[str, str], _says("environment; in a form as JSON")] = {}
    network: Annotated[bool, _says("may it use the network")] = False
    idempotent: Annotated[bool, _says("may it run twice")] = False
    retries: Annotated[int, Meta(ge=0, le=100), _says("further attempts")] = 0
    isolation: Annotated[
        Literal["none", "fork"], _says("whether each call of a handler gets a process")
    ] = "none"
    preload: (
        Annotated[
            Literal["none", "runtime", "function", "image"],
            _says("what is kept ready before a call; null: as the node decides"),
        ]
        | None
    ) = None
    baked_image: (
        Annotated[Said, _says("made by skep function build; used if preload is image")] | None
    ) = None
    min_warm: Annotated[Count, _says("sandboxes kept ready, at least")] | None = None
    max_warm: Annotated[Count, _says("sandboxes kept ready, at most")] | None = None
    idle: Annotated[float, Meta(ge=0), _says("seconds that one may wait unused")] | None = None
    max_concurrency: Annotated[Number, _says("calls that run at once, at most")] | None = None
    concurrency: Annotated[Concurrency, _says("calls at once in one sandbox; of http")] = 1
    port: Annotated[Port, _says("where its server listens; of http")] = DEFAULT_PORT
    max_wait: Annotated[MaxWait, _says("seconds until a call must have started")] = 600.0
    policy: (
        Annotated[PolicyName, _says("which node gets a call; null: as the api does it")] | None
    ) = None
    requires: Annotated[
        dict[str, str], _says("labels that a node must have; in a form as JSON")
    ] = {}
    description: Annotated[str, _says("for people")] = ""

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


#: The settings of a function as they are spelled outside.
SETTINGS: Final = frozenset(
    field.encode_name for field in msgspec.structs.fields(FunctionSettings)
)


#: Those of a server.
HTTP_SETTINGS: Final = ("concurrency", "port")
#: Those that an agent is told.
AGENT_SETTINGS: Final = ("entry", "isolation")
#: Those of what stays after a call, which an image does only as a server.
WARM_SETTINGS: Final = ("min_warm", "max_warm", "idle")
#: Those that a function has which is an image: it has no code to load.
IMAGE_SETTINGS: Final = (
    "timeout", "memory", "cpu", "env", "network", "idempotent", "retries", "max_concurrency",
    "max_wait", "policy", "requires", "description", *HTTP_SETTINGS, *WARM_SETTINGS,
)  # fmt: skip


#: What a function is that has no code.
ImageName = Annotated[Said, _says("its name, as docker run takes it")]


def shown(name: str) -> str:
    """Return a field as it is spelled outside."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _image_model() -> type[Model]:
    fields: list[Any] = [
        (field.name, field.type, _default_of(field))
        for field in msgspec.structs.fields(FunctionSettings)
        if field.name in IMAGE_SETTINGS
    ]
    contract = Annotated[
        Literal["image", "http"],
        _says("a call is: a run of the image with arguments, or a request to its server"),
    ]
    served = {"required": ["contract"], "properties": {"contract": {"const": "http"}}}
    defaults = FunctionSettings()
    names = (*HTTP_SETTINGS, *WARM_SETTINGS)
    plain = {shown(name): {"const": getattr(defaults, name)} for name in names}
    made = msgspec.defstruct(
        "ImageFunction",
        [("image", ImageName), ("contract", contract, "image"), *fields],
        bases=(Strict,),
        namespace={
            "__doc__": "POST /registerFunction/image/NAME: an image, and settings.",
            "also": {"anyOf": [served, {"properties": plain}]},
        },
        frozen=True,
        kw_only=True,
        module=__name__,
    )
    return cast("type[Model]", made)


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    return field.default


#: Made of ``FunctionSettings`` too.
ImageFunction: Final = _image_model()


def image_function(body: Any, *, name: str, uuid: str, at: str) -> Function:
    """Return the function that an ``ImageFunction`` describes."""
    return Function(
        function_name=name,
        runtime_name=images.RUNTIME,
        id=uuid,
        created_at=at,
        updated_at=at,
        **{field: getattr(body, field) for field in body.__struct_fields__},
    )


def check_settings(function: Function, contract: str) -> None:
    """Refuse what only a server could have, and of a server what only an agent does.

    Raises:
        BadRequest: it has it, and its contract is another.
    """
    hint = 'it is for servers: {"contract": "http"} of an image, or of a runtime'
    names = HTTP_SETTINGS if function.image is None else (*HTTP_SETTINGS, *WARM_SETTINGS)
    if contract == "http":
        names, hint = AGENT_SETTINGS, "run says how its server is started"
    defaults = FunctionSettings()
    for name in names:
        if getattr(function, name) != getattr(defaults, name):
            raise BadRequest(
                f"{shown(name)} makes no sense for {function.function_name!r}: "
                f"its contract is {contract}",
                hint=hint,
            )


class InvokeFunction(Strict, frozen=True, kw_only=True):
    """POST /invokeFunction. The params stay the bytes that they came as."""

    func_name: Name
    params: Annotated[
        msgspec.Raw, _says("any JSON: an object is keyword arguments, a list positional ones")
    ] = msgspec.field(default_factory=no_params)
    timeout: Annotated[Timeout, _says("null: the function's")] | None = None
    max_wait: Annotated[MaxWait, _says("null: the function's")] | None = None
    revision: Annotated[Number, _says("null: the newest")] | None = None


class InvokeLine(InvokeFunction, frozen=True, kw_only=True):
    """A line of POST /invokeFunctions."""

    idempotency_key: Annotated[Key, _says("the same key is the same call")] | None = None

    def body(self) -> InvokeFunction:
        """Return the call as POST /invokeFunction would have got it."""
        fields = InvokeFunction.__struct_fields__
        return InvokeFunction(**{name: getattr(self, name) for name in fields})


def _patch_model() -> type[Model]:
    """Return a function as a merge patch: each setting may be absent, or null.

    The image of one that is an image may be another, but not null: there is no default.
    """
    fields: list[Any] = [
        (field.name, field.type | None | UnsetType, UNSET)
        for field in msgspec.structs.fields(FunctionSettings)
    ]
    made = msgspec.defstruct(
        "FunctionPatch",
        [("image", ImageName | UnsetType, UNSET), *fields],
        bases=(Strict,),
        namespace={
            "__doc__": "PATCH /functions/NAME: what is absent stays; null is the default.",
            "also": FunctionSettings.also,
        },
        frozen=True,
        kw_only=True,
        module=__name__,
    )
    return cast("type[Model]", made)


#: Made of ``FunctionSettings``: a setting is said once.
FunctionPatch: Final = _patch_model()


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
    if name == images.RUNTIME:
        raise BadRequest(
            f"the runtime name {name!r} is reserved for functions that are images",
            hint='give this runtime another name: {"name": "my-runtime", …}',
        )
    return name


def agent_of(run: str) -> str:
    """Return the agent that the first word of a run command asks for."""
    first = run.split(maxsplit=1)[0] if run.strip() else ""
    return _AGENTS.get(first.rpartition("/")[2], "none")
