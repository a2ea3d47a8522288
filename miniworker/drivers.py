"""The drivers by name. What one needs is imported when it is asked for: most nodes use one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from miniworker.agent import Limits
from miniworker.opening import Serving
from miniworker.sandbox import Driver, NoSandbox, Plan
from wire.models import Fault

Name = Literal["docker", "process", "fake"]


def driver(name: Name) -> Driver:
    """Return the driver of this name; the zygote loads it, so that its forks share it."""
    if name == "docker":
        # Both, for the zygote loads here what its forks share; it drags in an HTTP stack.
        from miniworker import imaged  # noqa: F401, PLC0415
        from miniworker.container import ContainerSandbox  # noqa: PLC0415

        return ContainerSandbox
    if name == "process":
        from miniworker.confined import ConfinedSandbox  # noqa: PLC0415 - as above

        return ConfinedSandbox
    from miniworker.fake import FakeSandbox  # noqa: PLC0415 - for tests alone

    return FakeSandbox


def open_image(name: Name, plan: Plan, settings: Mapping[str, str], limits: Limits) -> Serving:
    """Return what runs the calls of a function that is an image.

    Raises:
        NoSandbox: there is no engine, or it has no such image.
    """
    image = plan.spec.runtime.image
    if name != "docker":
        raise NoSandbox(
            f"the function is the image {image!r}, and this node runs no containers",
            hint="it needs a Docker engine: skep up --sandbox docker",
            fault=Fault.FUNCTION,
            code="image_unavailable",
        )
    from miniworker.imaged import ImageCalls  # noqa: PLC0415 - as above

    calls = ImageCalls(plan, settings, limits)
    try:
        calls.open()
    except NoSandbox:
        calls.close()
        raise
    return calls


def has_leavings(name: Name) -> bool:
    """Return whether what others leave has to be looked for."""
    return name == "docker"


def sweep(
    name: Name,
    settings: Mapping[str, str],
    parent: int,
    dead: Collection[str] = (),
    patience_s: float = 0,
) -> None:
    """Remove what killed miniworkers left that is more than processes and folders."""
    if name == "docker":
        from miniworker.sweeping import sweep as remove  # noqa: PLC0415 - as above

        remove(settings, parent, dead, patience_s)
