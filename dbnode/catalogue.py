"""The rules of the catalogue: names, revisions, and the one order of all changes.

Pure and persistent: a change returns a new catalogue beside the old one, so that a batch
that cannot be stored leaves nothing behind. Every revision stays; a deletion is one more
item, and the numbers of a deleted name are never given again.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from wire import images, records
from wire.errors import BadRequest, Conflict, UnknownFunction, UnknownRuntime
from wire.models import Function, Item, Model, Runtime
from wire.records import CatalogueRead, Changed, ReadCatalogue

#: What registering the same thing again may differ in.
_GIVEN_HERE: Final = ("id", "revision", "created_at", "updated_at")
_NAMES_SHOWN: Final = 10


class Catalogue(Model, frozen=True, kw_only=True):
    """All changes in the order of their ``seq``; the epoch is the store's."""

    epoch: str
    items: tuple[Item, ...] = ()

    @property
    def seq(self) -> int:
        """Return the place of the newest change; 0 if there is none."""
        return self.items[-1].seq if self.items else 0

    def newest(self, kind: type[Model], project: str, name: str) -> Item | None:
        """Return the last change of a name, which may be its deletion."""
        wanted = (kind, project, name)
        return next((item for item in reversed(self.items) if key(item) == wanted), None)


def key(item: Item) -> tuple[type[Model], str, str]:
    """Return whose change an item is."""
    if item.runtime is not None:
        return Runtime, item.runtime.project, item.runtime.name
    function = _function(item)
    return Function, function.project, function.function_name


def read(catalogue: Catalogue, request: ReadCatalogue) -> CatalogueRead:
    """Return the changes after the asked one, or everything if they are not of this epoch."""
    known = request.epoch == catalogue.epoch and request.after <= catalogue.seq
    after = request.after if known else 0
    items = tuple(item for item in catalogue.items if item.seq > after)
    return CatalogueRead(epoch=catalogue.epoch, after=after, seq=catalogue.seq, items=items)


def register_runtime(catalogue: Catalogue, new: Runtime) -> tuple[Catalogue, Changed]:
    """Store a runtime under its name.

    Raises:
        BadRequest: that name is not to be had.
    """
    if new.name == images.RUNTIME:
        raise BadRequest(
            f"the runtime name {new.name!r} is reserved for functions that are images",
            hint="give this runtime another name",
        )
    before = catalogue.newest(Runtime, new.project, new.name)
    return _register(catalogue, before, new)


def register_function(catalogue: Catalogue, new: Function) -> tuple[Catalogue, Changed]:
    """Store a function under its name.

    Raises:
        UnknownRuntime: its runtime does not exist.
        BadRequest: it is an image in name only, or in everything but its name.
    """
    if (new.image is None) != (new.runtime_name != images.RUNTIME):
        raise BadRequest(
            f"function {new.function_name!r} has the runtime {new.runtime_name!r} "
            f"and the image {new.image!r}",
            hint=f"the runtime {images.RUNTIME!r} is for functions with an image, and only it",
        )
    if new.image is None:
        _check_runtime(catalogue, new)
    before = catalogue.newest(Function, new.project, new.function_name)
    return _register(catalogue, before, new)


def _check_runtime(catalogue: Catalogue, new: Function) -> None:
    runtime = catalogue.newest(Runtime, new.project, new.runtime_name)
    if runtime is None or runtime.deleted:
        raise UnknownRuntime(
            f"there is no runtime {new.runtime_name!r} for function {new.function_name!r}",
            hint="register the runtime first, or check its name",
        )


def delete_runtime(
    catalogue: Catalogue, request: records.DeleteRuntime
) -> tuple[Catalogue, Changed]:
    """Remove a runtime; removing it again is ``same``.

    Raises:
        UnknownRuntime: there never was one of that name.
        Conflict: a function uses it.
    """
    item = catalogue.newest(Runtime, request.project, request.name)
    if item is None:
        raise UnknownRuntime(
            f"there is no runtime {request.name!r}", hint="GET /runtimes lists them"
        )
    users = [] if item.deleted else _users(catalogue, request.project, request.name)
    if users:
        more = f" and {len(users) - _NAMES_SHOWN} more" if len(users) > _NAMES_SHOWN else ""
        raise Conflict(
            f"runtime {request.name!r} is in use by {', '.join(users[:_NAMES_SHOWN])}{more}",
            hint="delete these functions, or register them with another runtime, first",
        )
    return _delete(catalogue, item)


def delete_function(
    catalogue: Catalogue, request: records.DeleteFunction
) -> tuple[Catalogue, Changed]:
    """Remove a function; removing it again is ``same``.

    Raises:
        UnknownFunction: there never was one of that name.
    """
    item = catalogue.newest(Function, request.project, request.name)
    if item is None:
        raise UnknownFunction(
            f"there is no function {request.name!r}", hint="GET /functions lists them"
        )
    return _delete(catalogue, item)


def _register(
    catalogue: Catalogue, before: Item | None, new: Runtime | Function
) -> tuple[Catalogue, Changed]:
    if before is None:
        return _append(catalogue, "created", replace(new, revision=1))
    old = before.runtime or _function(before)
    if before.deleted:
        return _append(catalogue, "created", replace(new, revision=old.revision + 1))
    if _alike(old, new):
        return catalogue, Changed(change="same", item=before)
    changed = replace(
        new, id=old.id, revision=old.revision + 1, created_at=old.created_at or new.created_at
    )
    return _append(catalogue, "changed", changed)


def _alike(old: Runtime | Function, new: Runtime | Function) -> bool:
    ours: dict[str, Any] = {name: getattr(old, name) for name in _GIVEN_HERE}
    return replace(new, **ours) == old


def _delete(catalogue: Catalogue, item: Item) -> tuple[Catalogue, Changed]:
    if item.deleted:
        return catalogue, Changed(change="same", item=item)
    gone = replace(item, seq=catalogue.seq + 1, deleted=True)
    after = replace(catalogue, items=(*catalogue.items, gone))
    return after, Changed(change="deleted", item=gone)


def _append(
    catalogue: Catalogue, change: Any, new: Runtime | Function
) -> tuple[Catalogue, Changed]:
    seq = catalogue.seq + 1
    item = (
        Item(seq=seq, runtime=new) if isinstance(new, Runtime) else Item(seq=seq, function=new)
    )
    after = replace(catalogue, items=(*catalogue.items, item))
    return after, Changed(change=change, item=item)


def _users(catalogue: Catalogue, project: str, runtime: str) -> list[str]:
    """Return the functions whose newest revision names a runtime, sorted."""
    newest = {key(item): item for item in catalogue.items if item.function is not None}
    living = [_function(item) for item in newest.values() if not item.deleted]
    return sorted(
        function.function_name
        for function in living
        if (function.project, function.runtime_name) == (project, runtime)
    )


def _function(item: Item) -> Function:
    if item.function is None:
        raise TypeError(f"{item!r} is no function's")
    return item.function
