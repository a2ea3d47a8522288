"""What the command line says about a node."""

from __future__ import annotations

from dataclasses import dataclass, field

from wire.jobs import PullPolicy
from wire.reach import Reach
from wire.scrape import Place
from worker.pool import PoolSettings
from worker.preload import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that does not change in a life of a node."""

    name: str
    api: str
    pub: str
    slots: int
    pool: PoolSettings
    labels: dict[str, str] = field(default_factory=dict)
    #: Whose its containers are; empty for the one of its data folder.
    installation: str = ""
    token: str = ""
    cache_bytes: int = 4 << 30
    build_s: float = 600.0
    reach: Reach = field(default_factory=Reach)
    grace_s: float = 10.0
    #: How containers get their files, or auto.
    transport: str = "auto"
    #: Whether images are got from registries, and a file with credentials for these.
    pull: PullPolicy = "missing"
    registry_config: str = ""
    preload: Policy = "none"
    #: Generic sandboxes of a kind that wait, where any do.
    generic: int = 2
    #: For the zygote and its miniworkers.
    log_level: str = "info"
    log_format: str = "text"
    scrape: Place = field(default_factory=Place)

    @property
    def log_options(self) -> list[str]:
        """Return what the zygote has to know to log as this node does."""
        said = ["--log-level", self.log_level, "--log-format", self.log_format]
        return [*said, "--node", self.name]
