"""The driver ``process``: a local process, confined with what this host offers.

Three levels, the first that the probe saw working (``probe``):

* ``bubblewrap``: bwrap makes the namespaces and the view of the file system;
* ``uid``: as root without bwrap, an unprivileged uid for each sandbox, in namespaces and a
  view of our own making where that is permitted;
* ``rlimits``: limits of resources and a clean environment, for trusted code only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from miniworker import kernel, layout, ownership, passing, processes, rlimits, tools
from miniworker.sandbox import (
    COMMANDS_BY_PYTHON,
    NO_AGENT,
    SOCKET_NAME,
    NoSandbox,
    Plan,
    no_agent,
)
from miniworker.tools import AGENTS


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe found, as it travels in Spawn.settings: all are strings."""

    level: str
    #: "yes" if namespaces and a view of our own can be made without bwrap.
    namespaces: str
    #: The tools folder of this host, whose bin begins a sandbox's PATH.
    tools: str
    #: Folders that the interpreter needs beside /usr, joined by ``:``.
    binds: str = ""
    bwrap: str = ""
    #: A sandbox's uid is base + its miniworker's pid modulo span.
    uid_base: str = "0"
    uid_span: str = "1"

    @property
    def has_view(self) -> bool:
        """Return whether a sandbox has a root of its own."""
        return self.level == "bubblewrap" or self.namespaces == "yes"


class ConfinedSandbox:
    """One confined process and what comes of it."""

    is_left = False
    line = None

    def __init__(self, plan: Plan, settings: Mapping[str, str]) -> None:
        self._plan = plan
        self._settings = msgspec.convert(dict(settings), Settings)
        self._folder = plan.folder.absolute()
        self._pid: int | None = None
        self._uid = self._own_uid()
        self._argv: list[str] = []
        self._places = self._find_places()
        given = passing.to_build(plan, self._places.sockets)
        self.env: Mapping[str, str] = given | layout.environment(self._places)
        self._extra = tuple(f for f in passing.files_named(plan.env) if layout.needs_bind(f))

    def __repr__(self) -> str:
        return f"<ConfinedSandbox by {self._settings.level}, pid {self._pid}, uid {self._uid}>"

    @property
    def path(self) -> str:
        """Return where the code is, as seen inside."""
        return self._places.path

    @property
    def bundle(self) -> str:
        """Return where the bundle is, as seen inside."""
        return self._places.bundle

    def start(self) -> None:
        """Fork; the child confines itself and becomes the agent."""
        self._check_agent(self._plan.spec.runtime.agent)
        # Looked up here: in a view the host's folders are out of sight.
        self._argv = self._agent()
        self._make_folders()
        kernel.adopt_orphans()
        self._unshare_pids()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_sandbox(parent)
        self._pid = pid

    def adopt(self, plan: Plan) -> None:
        """Take one of the bundles that are shown for its own."""
        self._plan = plan
        self._places = replace(
            self._places, bundle=f"{self._places.bundles}/{plan.bundle.name}"
        )

    def has_ended(self) -> bool:
        """Return whether the first process has ended."""
        if self._pid is None or os.waitpid(self._pid, os.WNOHANG)[0] != 0:
            self._pid = None
            return True
        return False

    def kill(self) -> None:
        """Kill the first process, and what is left of the others."""
        if self._pid is not None:
            processes.kill(self._pid)
            os.waitpid(self._pid, 0)
            self._pid = None
        processes.end_orphans()

    def collect(self) -> None:
        """Do nothing: it was built in place."""

    def out_of_memory(self) -> bool:
        """Return False: without a cgroup only the program itself can tell."""
        return False

    def remove(self) -> None:
        """Remove what this sandbox wrote; make a built bundle safe to share."""
        for name in ("work", "tmp", "root"):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        if self._plan.build:
            ownership.give(self._plan.bundle, os.geteuid(), os.getegid(), seal=True)

    # --- before the fork ---------------------------------------------------------------

    def _find_places(self) -> layout.Places:
        plan, settings = self._plan, self._settings
        folder, bundle = str(self._folder), str(plan.bundle.absolute())
        path, tools = plan.spec.runtime.path, settings.tools
        if plan.generic:
            return layout.generic_places(
                has_view=settings.has_view,
                folder=folder,
                bundles=bundle,
                tools=tools,
                path=path,
            )
        return layout.places(
            has_view=settings.has_view,
            folder=folder,
            bundle=bundle,
            tools=tools,
            path=path,
            build=plan.build,
        )

    @property
    def _makes_namespaces(self) -> bool:
        return self._settings.level == "uid" and self._settings.namespaces == "yes"

    def _unshare_pids(self) -> None:
        """Have the next fork be PID 1 of a namespace; this process stays where it is."""
        if self._makes_namespaces:
            kernel.unshare(kernel.NEW_PIDS)
        elif self._settings.level == "bubblewrap" and os.geteuid() == 0:
            # What bwrap forks waits for it before it is bound to its life: a bwrap that is
            # killed just then would leave it waiting for ever. So the kernel ends it too.
            with contextlib.suppress(OSError):
                kernel.unshare(kernel.NEW_PIDS)

    def _own_uid(self) -> int | None:
        if os.geteuid() != 0 or self._settings.level == "rlimits":
            return None
        return int(self._settings.uid_base) + os.getpid() % int(self._settings.uid_span)

    def _make_folders(self) -> None:
        for name in ("work", "tmp", "root"):
            (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o711)
        if self._uid is not None:
            for name in ("work", "tmp"):
                os.chown(self._folder / name, self._uid, self._uid)
            if self._plan.build:
                ownership.give(self._plan.bundle, self._uid, self._uid)

    # --- in the child ------------------------------------------------------------------

    def _be_sandbox(self, parent: int) -> None:
        """Confine this process and become the agent; never returns."""
        try:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            self._enter(parent)
        except OSError as error:
            os.write(2, f"the sandbox cannot be made: {error}\n".encode())
        finally:
            os._exit(1)

    def _enter(self, parent: int) -> None:
        limits = rlimits.of(self._plan, has_uid=self._uid is not None)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.nice(rlimits.NICE)
        os.umask(0o022)
        if self._settings.level == "bubblewrap":
            kernel.die_with_parent()
            rlimits.impose(limits)
            self._execute(layout.bwrap(self._view(), self._settings.bwrap, self._argv))
        if self._makes_namespaces:
            self._enter_view()
        rlimits.impose(limits)
        if self._uid is not None:
            drop(self._uid)
        if self._makes_namespaces:
            # After the change of uid, which would clear it. In a pid namespace of its own
            # this process cannot see its parent: an agent without one ends by itself.
            kernel.die_with_parent()
        elif os.getppid() != parent:
            os._exit(1)
        kernel.no_new_privileges()
        self._execute(self._argv)

    def _enter_view(self) -> None:
        flags = kernel.NEW_MOUNTS | kernel.NEW_IPC | kernel.NEW_UTS
        if not self._plan.network:
            flags |= kernel.NEW_NET
        kernel.unshare(flags)
        if not self._plan.network:
            kernel.loopback_up()
        layout.enter(self._view(), self._folder / "root")

    def _view(self) -> layout.View:
        return layout.View(
            places=self._places,
            network=self._plan.network,
            uid=self._uid,
            binds=(*filter(None, self._settings.binds.split(":")), *self._extra),
            memory_bytes=self._plan.spec.function.memory << 20,
        )

    def _agent(self) -> list[str]:
        place, name = self._places.tools, self._plan.spec.runtime.agent
        socket = f"{self._places.sockets}/{SOCKET_NAME}"
        if self._has_agent(name):
            return [f"{place}/{AGENTS}/{name}", socket]
        return [f"{place}/bin/python3", f"{place}/{AGENTS}/python.py", socket]

    def _has_agent(self, name: str) -> bool:
        # What installs is a command of sh, whatever runs the calls.
        if self._plan.build or not self._agent_file(name).is_file():
            return False
        return not self._lacks(name)

    def _agent_file(self, name: str) -> Path:
        return Path(self._settings.tools, AGENTS, name)

    def _lacks(self, name: str) -> str:
        """Return the program that this agent is written for, if a sandbox here has none."""
        return tools.lacks(self._agent_file(name), self.env["PATH"])

    def _check_agent(self, name: str) -> None:
        """Refuse what neither the agent nor the one that stands in for it can do."""
        has_file = self._agent_file(name).is_file()
        if name not in COMMANDS_BY_PYTHON and not has_file:
            raise no_agent(name, f"put {name}/agent.EXT into a folder that SKEP_RUNTIMES names")
        needs_it = name not in COMMANDS_BY_PYTHON or self._plan.spec.function.entry
        program = self._lacks(name) if has_file and needs_it and not self._plan.build else ""
        if program:
            raise NoSandbox(
                f"the agent {name!r} needs the program {program!r}, and this node has none",
                hint="install it for all users of the node, or run the node with containers",
                code=NO_AGENT,
            )

    def _execute(self, argv: list[str]) -> None:
        # Without PYTHONPATH: no module of the function may reach the agent's process.
        env = {name: self.env[name] for name in ("PATH", "LANG", "HOME", "TMPDIR")}
        os.execve(argv[0], argv, env)  # noqa: S606 - confined by now


def drop(uid: int) -> None:
    """Become an unprivileged user for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
