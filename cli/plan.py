"""What ``skep up`` starts, and with which options: settings in, command lines out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

from cli.targets import FILE
from wire.models import PolicyName

#: Relative to the data folder, the working folder of all: short however deep it lies.
DB, WORKERS, PUB = "ipc://run/db", "ipc://run/workers", "ipc://run/pub"

#: Where a child without HTTP of its own serves its metrics: on a free port, here alone.
SCRAPE: Final = ("--metrics-port", "0", "--metrics-host", "127.0.0.1")


class Plan(Protocol):
    """What the hive needs to know of its children."""

    stages: tuple[tuple[str, ...], ...]

    def command(self, child: str, *, first: bool) -> list[str]:
        """Return the command line of a child, without the descriptors it is given."""

    def environment(self, child: str) -> Mapping[str, str]:
        """Return the variables that are this child's alone."""

    def note(self, child: str, facts: Mapping[str, Any]) -> None:
        """Take notice of what a child said when it was ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of ``skep up`` that its children need."""

    host: str = "127.0.0.1"
    port: int = 3000
    workers: int = 1
    slots: int | None = None
    idle: float | None = None
    preload: Literal["none", "runtime", "function"] = "none"
    sandbox: Literal["auto", "docker", "process"] = "auto"
    insecure: bool = False
    redeploy: Literal["keep", "fresh"] = "keep"
    unfinished: Literal["requeue", "fail", "keep"] = "requeue"
    policy: PolicyName = "warm-first"
    log_level: str = "info"
    log_format: Literal["text", "json"] = "text"
    #: Where the DB node keeps everything; None: in the data folder. May hold a password.
    store: str | None = field(default=None, repr=False)
    #: Finished calls that are kept: how many, and for how many seconds; None: all.
    keep_calls: int | None = None
    keep_for: float | None = None
    #: Variables for the workers: how dependencies are installed.
    builds: Mapping[str, str] = field(default_factory=dict, repr=False)


class UpPlan:
    """The installation on one machine: a DB node, an api, N workers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers = tuple(f"node{n}" for n in range(1, settings.workers + 1))
        self.stages: tuple[tuple[str, ...], ...] = (("dbnode",), ("api",), self._workers)
        #: Where the api was found to listen; a restarted one must listen there again.
        self.port = settings.port
        #: Decided by the first worker of this start: one that died and is started again
        #: must not decide otherwise because an engine is away, or back.
        self.sandbox: str = settings.sandbox

    @property
    def url(self) -> str:
        """Return where a program on this machine reaches the api."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(  # noqa: S104
            self._settings.host, self._settings.host
        )
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def socket_names(self) -> tuple[str, ...]:
        """Return what the children make in the folder of sockets."""
        return ("db", "workers", "pub", FILE, f"{FILE}.new", *self._workers)

    def note(self, child: str, facts: Mapping[str, Any]) -> None:
        """Keep the port that the api was given, and the sandbox that was decided on."""
        port = urlsplit(str(facts.get("url", ""))).port if child == "api" else None
        self.port = port or self.port
        if child in self._workers and self.sandbox == "auto":
            self.sandbox = str(facts.get("sandbox", "auto"))

    def environment(self, child: str) -> Mapping[str, str]:
        """Return the variables that are this child's alone.

        The store's URL may hold a password: every user can read a command line.
        """
        store = self._settings.store
        return {"SKEP_STORE": store} if child == "dbnode" and store else {}

    def command(self, child: str, *, first: bool) -> list[str]:
        """Return the command line of a child."""
        if child == "dbnode":
            options = self._dbnode(first)
        elif child == "api":
            options = self._api()
        else:
            options = self._worker(child)
        module = process_of(child)
        logs = ["--log-level", self._settings.log_level]
        logs += ["--log-format", self._settings.log_format]
        return [sys.executable, "-P", "-m", module, "--data", ".", *logs, *options]

    def _dbnode(self, first: bool) -> list[str]:
        # A dbnode that died and is started again must never wipe what it acknowledged.
        redeploy = self._settings.redeploy if first else "keep"
        options = ["--bind", DB, "--redeploy", redeploy, *SCRAPE]
        if self._settings.keep_calls is not None:
            options += ["--keep-calls", str(self._settings.keep_calls)]
        if self._settings.keep_for is not None:
            options += ["--keep-for", str(self._settings.keep_for)]
        return options

    def _api(self) -> list[str]:
        options = ["--host", self._settings.host, "--port", str(self.port)]
        options += ["--workers-bind", WORKERS, "--pub-bind", PUB, "--db", DB]
        options += ["--unfinished", self._settings.unfinished]
        options += ["--policy", self._settings.policy]
        return options + ["--insecure"] * self._settings.insecure

    def _worker(self, name: str) -> list[str]:
        options = ["--name", name, "--api", WORKERS, "--pub", PUB]
        options += ["--sandbox", self.sandbox, *SCRAPE]
        options += ["--preload", self._settings.preload]
        if self._settings.slots is not None:
            options += ["--slots", str(self._settings.slots)]
        if self._settings.idle is not None:
            options += ["--idle", str(self._settings.idle)]
        return options


def process_of(child: str) -> str:
    """Return which process a child is: dbnode, api, or a worker of whatever name."""
    return child if child in ("dbnode", "api") else "worker"
