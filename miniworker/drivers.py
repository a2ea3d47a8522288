"""The drivers by name. What one needs is imported when it is asked for: most nodes use one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal

from miniworker.agent import Limits
from miniworker.opening import Serving
from miniworker.sandbox import Driver, NoSandbox, Plan
from wire import jobs
from wire.models import Fault

Name = Literal["docker", "process", "fake"]


def driver(name: Name) -> Driver:
    """Return the driver of this name; the zygote loads it, so that its forks share it."""
    if name == "docker":
        # Both, for the zygote loads here what its forks share; it drags in an HTTP stack.
        from miniworker import imaged, pulling, served  # noqa: F401, PLC0415
        from miniworker.container import ContainerSandbox  # noqa: PLC0415

        return ContainerSandbox
    if name == "process":
        from miniworker.confined import ConfinedSandbox  # noqa: PLC0415 - as above

        return ConfinedSandbox
    from miniworker.fake import FakeSandbox  # noqa: PLC0415 - for tests alone

    return FakeSandbox


def open_image(name: Name, plan: Plan, settings: Mapping[str, str], limits: Limits) -> Serving:
    """Return what runs the calls of a function whose image speaks for itself.

    Raises:
        NoSandbox: there is no engine, or it has no such image, or that is no server.
    """
    image = plan.spec.runtime.image
    if name != "docker":
        raise NoSandbox(
            f"the function needs the image {image!r}, and this node runs no containers",
            hint="it needs a Docker engine: skep up --sandbox docker",
            fault=Fault.FUNCTION,
            code="image_unavailable",
        )
    from miniworker.imaged import ImageCalls  # noqa: PLC0415 - as above
    from miniworker.served import ServedCalls  # noqa: PLC0415 - as above

    kind = ServedCalls if plan.is_server else ImageCalls
    calls = kind(plan, settings, limits)
    try:
        calls.open()
    except NoSandbox as error:
        calls.close()
        error.is_left = calls.is_left
        raise
    return calls


def pull(
    order: jobs.Pull, settings: Mapping[str, str], on_percent: Callable[[int], None]
) -> jobs.Pulled:
    """Have an image on the engine of the driver ``docker``."""
    from miniworker.pulling import pull as get  # noqa: PLC0415 - as above

    return get(order, settings, on_percent)


def has_leavings(name: Name) -> bool:
    """Return whether what others leave has to be looked for."""
    return name == "docker"


def sweep(
    name: Name,
    settings: Mapping[str, str],
    parent: int,
    dead: Collection[str] = (),
    worker: int = 0,
    patience_s: float = 0,
) -> bool:
    """Remove what killed miniworkers left that is more than processes and folders.

    Of the zygote ``parent`` only what its ``dead`` left; 0 if that of this ``worker`` ends.
    Returns whether something may still come.
    """
    if name == "docker":
        from miniworker.sweeping import Whose  # noqa: PLC0415 - as above
        from miniworker.sweeping import sweep as remove  # noqa: PLC0415 - as above

        return remove(settings, Whose(parent=parent, dead=dead, worker=worker), patience_s)
    return False
