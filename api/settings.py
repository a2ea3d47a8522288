"""What an api is told at its start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from api.reunion import Policy
from wire.errors import BadRequest
from wire.hosts import is_loopback
from wire.models import PolicyName


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is taken in; sizes are bytes."""

    package: int = 64 << 20
    params: int = 6 << 20
    result: int = 6 << 20
    #: Calls that wait for a credit, and the params that they hold.
    queue: int = 100_000
    queue_bytes: int = 64 << 20
    #: Records that are not durable yet.
    outbox: int = 50_000
    outbox_bytes: int = 128 << 20
    #: Clients that wait for the end of a call.
    waiting: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the api listens, what it connects to, and its policies."""

    db: str
    data: Path
    host: str = "127.0.0.1"
    port: int = 3000
    workers_bind: str = "tcp://127.0.0.1:3001"
    pub_bind: str = "tcp://127.0.0.1:3002"
    name: str = "api"
    unfinished: Policy = "requeue"
    policy: PolicyName = "warm-first"
    token: str = ""
    insecure: bool = False
    cors_origins: tuple[str, ...] = ()
    #: How long a request's body may pause before it is given up.
    upload_stall_s: float = 30.0
    limits: Limits = field(default_factory=Limits)

    def check(self) -> None:
        """Refuse to open the api to a network without a token.

        Raises:
            BadRequest: the host is not loopback, and neither token nor --insecure was said.
        """
        if not (self.is_local or self.token or self.insecure):
            raise BadRequest(
                f"--host {self.host} opens the api to the network: anyone there could run code",
                hint="set --token (SKEP_TOKEN), or say --insecure if that is what you want",
            )

    @property
    def is_local(self) -> bool:
        """Return whether the api listens on this machine alone."""
        return is_loopback(self.host)
