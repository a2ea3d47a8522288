"""The containers of a function whose image speaks for itself: found, made, removed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from miniworker import asking, complaints, creation, image_options
from miniworker.cgroups import Kills
from miniworker.engine import EngineAway, EngineRefused, Image
from miniworker.engine_settings import Settings
from miniworker.origins import Origins
from miniworker.sandbox import NoSandbox, Plan, no_reach
from miniworker.sharing import host_path
from wire import inside

log = logging.getLogger(__name__)

#: Noted on the node once its engine has said that it cannot limit a layer.
NO_QUOTA_FILE: Final = "no-quota"


class ImageContainers:
    """What one miniworker asks the engine for; closed by ``engine.close``."""

    def __init__(self, plan: Plan, settings: Mapping[str, str]) -> None:
        self.plan = plan
        self.settings = msgspec.convert(dict(settings), Settings)
        self.image = plan.spec.runtime.image
        self.engine = asking.engine_of(self.settings)
        #: Whether something may be left that only a sweep can remove.
        self.is_left = False

    def __repr__(self) -> str:
        return f"<ImageContainers of {self.image!r}>"

    @property
    def network(self) -> str:
        """Return the engine's network that a container gets; empty for none."""
        return self.settings.network if self.plan.network else ""

    @property
    def has_quota(self) -> bool:
        """Return whether the engine can limit what a container writes, as far as is known."""
        return not self._no_quota.exists()

    def find(self) -> Image:
        """Return what there is to know of the image.

        Raises:
            NoSandbox: the engine has none, or not for this machine, or does not answer.
        """
        try:
            return asking.find_image(self.engine, self.image, self.settings.architecture)
        except EngineRefused as error:
            raise complaints.refused(error.message, self.image, "") from error
        except EngineAway as error:
            raise NoSandbox(error.message, hint=error.hint) from error

    def code(self) -> image_options.Bundled | None:
        """Return the bundle that serves in the image; None if the image does by itself.

        Raises:
            NoSandbox: there is no image, the bundle is of another, or it cannot be shown.
        """
        image, spec, bundle = self.find(), self.plan.spec, self.plan.bundle
        if spec.function.image is not None:
            return None
        if self.settings.transport == "stdio":
            raise no_reach("this worker and the engine share no folder")
        if not Origins(Path(self.settings.folder)).is_of(bundle, image.id):
            raise complaints.built_elsewhere(self.image)
        mounts = msgspec.json.decode(self.settings.mounts, type=dict[str, str])
        path = inside.path_inside(spec.runtime.path)
        return image_options.Bundled(
            source=host_path(str(bundle.absolute()), mounts),
            path=path,
            run=spec.run,
            user=image.user or ":".join(map(str, creation.NOBODY)),
            env=inside.environment(path, image.env),
        )

    def labels(self) -> dict[str, str]:
        """Return whose a container is."""
        return asking.labels(self.settings, self.plan)

    def create(self, order: image_options.ImageOrder, number: int = 0) -> str:
        """Make the ``number``-th container of this miniworker; return its id.

        Raises:
            EngineAway: it may have been made all the same: ``is_left``.
            EngineRefused: it was not.
        """
        name = f"skep-{self.settings.boot[:12]}-{self.plan.folder.name}-{number}"
        # An engine that dies meanwhile may have made it without our hearing of it.
        # That of an earlier one stays to be swept.
        was_left, self.is_left = self.is_left, True
        try:
            container = self._create(name, order)
        except EngineRefused:
            self.is_left = was_left
            raise
        self.is_left = was_left
        return container

    def kills(self, container: str) -> Kills | None:
        """Return the count of what the kernel kills in a container, where it is to be had."""
        # It may have ended already; then the engine is asked how.
        with contextlib.suppress(EngineAway, EngineRefused):
            return asking.find_kills(self.engine, self.settings.cgroup, container)
        return None

    def remove(self, container: str) -> None:
        """Remove a container, whatever it does; if that fails something is left."""
        try:
            self.engine.remove(container)
        except (EngineAway, EngineRefused) as error:
            self.is_left = True
            log.error("the container %s is left behind: %s", container[:12], error.message)

    def _create(self, name: str, order: image_options.ImageOrder) -> str:
        try:
            return self.engine.create(name, image_options.body(order))
        except EngineRefused as error:
            if not (order.quota and image_options.is_without_quota(error.message)):
                raise
        self._no_quota.touch()
        plain = dataclasses.replace(order, quota=False)
        return self.engine.create(name, image_options.body(plain))

    @property
    def _no_quota(self) -> Path:
        return Path(self.settings.folder, NO_QUOTA_FILE)
