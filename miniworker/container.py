"""The driver ``docker``: a sandbox is a container of the runtime's image.

What the engine is asked for stands in ``creation``, what its complaints mean in
``complaints``. The container ends with its agent, and the agent at the end of its connection:
so nothing runs on when a miniworker is killed. What is left of such a container is removed by
``sweeping``.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from miniworker import asking, cgroups, complaints, creation, image_user
from miniworker.apart import Refusal, Told, apart
from miniworker.attached import Attached
from miniworker.engine import EngineAway, EngineRefused, Image
from miniworker.engine_settings import Settings
from miniworker.origins import Origins
from miniworker.sandbox import COMMANDS_BY_PYTHON, NoSandbox, Plan, no_agent
from miniworker.transports import way
from wire import baked, inside
from wire.errors import TooLarge, UnsafeArchive
from wire.models import Fault

log = logging.getLogger(__name__)

#: The engine is not asked more often whether a container lives that has yet to answer.
LOOK_AGAIN_S: Final = 0.25


class ContainerSandbox:
    """One container and what comes of it."""

    def __init__(self, plan: Plan, settings: Mapping[str, str]) -> None:
        self._plan = plan
        self._settings = msgspec.convert(dict(settings), Settings)
        self._origins = Origins(Path(self._settings.folder))
        self._image_name = plan.image
        self._image_id = ""
        self._program = self._find_program()
        self._engine = asking.engine_of(self._settings)
        # Here, for what talks to the engine is a fork, and its parent is not the zygote.
        self._labels = asking.labels(self._settings, plan)
        self._name = f"skep-{self._settings.boot[:12]}-{plan.folder.name}"
        self._id = ""
        #: The engine was asked to make it, and has not said that it did not.
        self._may_exist = False
        self._kills: cgroups.Kills | None = None
        self._was_oom = False
        self._looked_at = 0.0
        self.path = inside.path_inside(plan.spec.runtime.path)
        self._way = way(plan, self._settings, self.path)
        self.line: Attached | None = None
        self.env: Mapping[str, str] = {}
        self.is_left = False

    def __repr__(self) -> str:
        return f"<ContainerSandbox of {self._image_name!r}, {self._id[:12] or 'not made'}>"

    @property
    def bundle(self) -> str:
        """Return where the bundle is, as seen inside."""
        if self._plan.is_baked:
            return baked.BUNDLE
        return self.path if self._plan.build else f"{creation.BUNDLES}/{self._plan.bundle.name}"

    def start(self) -> None:
        """Make the container and start it.

        Raises:
            NoSandbox: the engine cannot, or the image is not there, or not fit.
        """
        if self._plan.generic and not self._way.can_wait:
            raise NoSandbox(
                "this engine shows a container only the bundle that it was made for",
                hint="use --preload function, or none",
            )
        name = self._plan.spec.runtime.agent
        if self._has_none(name):
            raise no_agent(name, f"put {name}/agent.EXT into a folder that SKEP_RUNTIMES names")
        self._aside(lambda: self._start(self._find_image()))
        with self._complaining():
            self._kills = asking.find_kills(self._engine, self._settings.cgroup, self._id)
        self._looked_at = time.monotonic()

    def adopt(self, plan: Plan) -> None:
        """Take one of the bundles that are shown for its own.

        Raises:
            NoSandbox: it was built by another image than this container is of.
        """
        if not self._origins.is_of(plan.bundle, self._image_id):
            raise self._not_of_one_image()
        self._plan = plan
        try:
            self._way.adopt(self._engine, self._id, plan)
        except EngineRefused as error:
            raise complaints.refused(error.message, self._image_name, "") from error
        except EngineAway as error:
            raise NoSandbox(error.message, hint=error.hint) from error

    def collect(self) -> None:
        """Bring home what a build made.

        Raises:
            NoSandbox: it cannot be had, or is not fit for a node.
        """
        try:
            self._way.collect(self._engine, self._id)
        except EngineRefused as error:
            raise complaints.refused(error.message, self._image_name, "") from error
        except EngineAway as error:
            raise NoSandbox(error.message, hint=error.hint) from error
        except (UnsafeArchive, TooLarge) as error:
            raise NoSandbox(
                error.message, hint=error.hint, fault=Fault.FUNCTION, code="install_failed"
            ) from error

    def _not_of_one_image(self) -> NoSandbox:
        """Return which of the two is older than the image that the name means now."""
        try:
            is_newest = self._engine.image(self._image_name).id == self._image_id
        except (EngineAway, EngineRefused) as error:
            return NoSandbox(error.message, hint=error.hint)
        if is_newest:
            return complaints.built_elsewhere(self._image_name)
        return NoSandbox(f"the image {self._image_name!r} is another since this one waits")

    def has_ended(self) -> bool:
        """Return whether the container was never started; raise if it has ended.

        Raises:
            NoSandbox: it has, and this says how, and what its agent printed.
        """
        if not self._id or time.monotonic() - self._looked_at < LOOK_AGAIN_S:
            return not self._id
        self._looked_at = time.monotonic()
        self._aside(self._check_running)
        return False

    def _check_running(self) -> None:
        try:
            state = self._engine.state(self._id)
            if state.running:
                return
            printed = self._printed()
        except (EngineAway, EngineRefused) as error:
            raise NoSandbox(error.message, hint=error.hint) from error
        raise complaints.ended(
            state.exit_code,
            "\n".join(filter(None, (state.error, printed))),
            self._image_name,
            out_of=self._plan.spec.function.memory if state.oom_killed else None,
        )

    def _printed(self) -> str:
        return self.line.last_words() if self.line else self._engine.printed(self._id)

    def kill(self) -> None:
        """Remove the container with all its processes; look first how it has ended."""
        if self.line is not None:
            self.line.close()
        if not self._id:
            # An engine that died meanwhile may have made it without our hearing of it.
            self.is_left = self._may_exist
            return
        self._was_oom = self._ended_by_memory()
        container, self._id = self._id, ""
        self._may_exist = False
        if self._kills is not None:
            self._kills.close()
            self._kills = None
        try:
            self._engine.remove(container)
        except (EngineAway, EngineRefused) as error:
            # Its agent has ended with its connection; the rest is to be swept.
            self.is_left = True
            log.error("the container %s is left behind: %s", container[:12], error.message)

    def out_of_memory(self) -> bool:
        """Return whether the kernel has killed in here since this was asked last."""
        # Asked after every call: the engine is not.
        return bool(self._kills and self._kills.have_risen()) or self._was_oom

    def _ended_by_memory(self) -> bool:
        """Return the same of a container's end, when its cgroup may be gone or out of sight."""
        risen = self._kills.have_risen() if self._kills is not None else None
        if risen is not None:
            return risen
        try:
            return self._engine.state(self._id).oom_killed
        except (EngineAway, EngineRefused):
            return False

    def remove(self) -> None:
        """Make a built bundle safe to share; let the engine go."""
        self._engine.close()
        self._way.close()
        if self._plan.build:
            self._origins.note(self._plan.bundle, self._image_id)

    # --- making it ---------------------------------------------------------------------

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except EngineRefused as error:
            raise complaints.refused(
                error.message, self._image_name, self._program[0]
            ) from error
        except EngineAway as error:
            raise NoSandbox(error.message, hint=error.hint) from error

    def _aside(self, work: Callable[[], None]) -> None:
        """Have a fork talk to the engine: that needs more memory than all the rest of this.

        Where the connection to the agent is the engine's it cannot be made by another.
        """
        if self._settings.transport == "stdio":
            with self._complaining():
                work()
            return
        said = apart(lambda: self._told_of(work))
        if said is None:
            self._may_exist = True
            raise NoSandbox("the process that talks to the engine has died")
        told = msgspec.json.decode(said, type=Told)
        self._id, self._may_exist = told.id, told.may_exist
        self._image_id, self.env = told.image_id, told.env
        if told.refusal is not None:
            raise told.refusal.error()

    def _told_of(self, work: Callable[[], None]) -> bytes:
        refusal = None
        try:
            with self._complaining():
                work()
        except NoSandbox as error:
            refusal = Refusal.of(error)
        told = Told(
            id=self._id,
            may_exist=self._may_exist,
            image_id=self._image_id,
            env=dict(self.env),
            refusal=refusal,
        )
        return msgspec.json.encode(told)

    def _start(self, image: Image) -> None:
        user = self._user(image)
        self.env = {**self._way.given(), **inside.environment(self.path, image.env)}
        self._way.hand_over(user)
        order = creation.Order(
            spec=self._plan.spec,
            image=self._image_name,
            build=self._plan.build,
            program=self._program,
            network=self._settings.network if self._plan.network else "",
            user=user,
            volumes=image.volumes,
            labels=self._labels,
            env=self.env,
            ways=self._way.ways(),
        )
        self._id = self._create(creation.body(order))
        self._way.fill(self._engine, self._id, user)
        self.line = self._way.connect(self._engine, self._id)
        self._engine.start(self._id)

    def _create(self, body: Mapping[str, Any]) -> str:
        self._may_exist = True
        try:
            return self._engine.create(self._name, body)
        except EngineRefused:
            self._may_exist = False
            raise

    def _find_image(self) -> Image:
        here = self._settings.architecture
        image = asking.find_image(self._engine, self._image_name, here)
        self._image_id = image.id
        if self._plan.is_baked:
            if image.baked != baked.digest(self._plan.spec):
                raise complaints.baked_of_other(self._image_name)
            return image
        is_for_bundle = not (self._plan.build or self._plan.generic)
        if is_for_bundle and not self._origins.is_of(self._plan.bundle, image.id):
            raise complaints.built_elsewhere(self._image_name)
        return image

    def _find_program(self) -> tuple[str, ...]:
        # A build is a call of a command: an image for another language has no Python for it.
        name = self._plan.spec.runtime.agent
        return creation.program(name if self._agents.joinpath(name).is_file() else "")

    def _has_none(self, name: str) -> bool:
        """Return whether nothing here can speak for an agent of this name."""
        is_pythons = self._plan.build or name in COMMANDS_BY_PYTHON
        return not is_pythons and self._program == creation.program()

    @property
    def _agents(self) -> Path:
        return Path(self._settings.folder, "agents")

    # --- whom it belongs to -------------------------------------------------------------

    def _user(self, image: Image) -> tuple[int, int]:
        if self._plan.build and os.geteuid() != 0:
            # What it may write is ours, and only root could give it away.
            return os.geteuid(), os.getegid()
        if not image.user:
            return creation.NOBODY
        name = f"{self._name}-user"
        users = Path(self._settings.folder, "users")
        # It may need a container of its own to look into.
        self._may_exist = True
        user = image_user.of(self._engine, image, users, name, self._labels)
        self._may_exist = False
        if user is None:
            raise complaints.refused("unable to find user", self._image_name, "")
        # Root may do too much, and whom the bundles belong to could list them.
        return creation.NOBODY if user[0] in (0, os.geteuid()) else user
