"""All open connections: when there are too many, one that does nothing makes room."""

from __future__ import annotations

import resource
from collections import OrderedDict
from typing import Final, Protocol

#: Descriptors that are left for all else: sockets to nodes, files, the store.
SPARE: Final = 256
#: More connections than this serve nobody.
MOST: Final = 20_000
LEAST: Final = 16


class Member(Protocol):
    """A connection."""

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""

    def hang_up(self) -> None:
        """End it at once."""


class Crowd:
    """The connections, those that were heard of longest ago first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._members: OrderedDict[Member, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Crowd of {len(self)}, at most {self.most}>"

    def __len__(self) -> int:
        return len(self._members)

    def came(self, member: Member) -> None:
        """Let one in: at the cost of the one that was silent longest, or else of itself."""
        self._members[member] = None
        if len(self._members) <= self.most:
            return
        idle = (each for each in self._members if not each.is_busy)
        one = next(idle, member)
        self._members.pop(one, None)
        one.hang_up()

    def heard(self, member: Member) -> None:
        """It says something."""
        if member in self._members:
            self._members.move_to_end(member)

    def left(self, member: Member) -> None:
        """It is gone."""
        self._members.pop(member, None)


def room_for_connections() -> int:
    """Take all descriptors that this process may have; return how many are for clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return MOST
    return max(LEAST, min(MOST, soft - SPARE))
