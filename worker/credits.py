"""What to grant the api: absolute counts, and only of keys that it must hear about. Pure.

The api subtracts what it spends by itself. So a count that is what the api believes anyway is
no news, and can wait until there is some: a warm call costs one CREDIT, not two.
"""

from __future__ import annotations

from typing import Literal

from wire.messages import Credit, Warm

#: What a START took: an idle sandbox and a slot, or a place ahead.
Spent = Literal["idle", "ahead"]


class Credits:
    """The grants of one session; ``restart`` when another begins."""

    def __init__(self) -> None:
        self.seen = 0
        self.received = 0
        #: By key, what the api was told and has not spent since.
        self._believed: dict[str, Warm] = {}
        self._free = -1
        self._lent = 0
        self._touched: set[str] = set()
        self._told = 0
        self._acknowledged = 0

    def __repr__(self) -> str:
        return f"<Credits: {self.seen} seen, {len(self._believed)} keys granted>"

    @property
    def is_behind(self) -> bool:
        """Return whether the api does not know yet how many of its messages were read."""
        return self._told != self.seen

    def restart(self) -> None:
        """Begin a session: nothing is granted, nothing was read."""
        self.__init__()  # type: ignore[misc]

    def spent(self, key: str, count: int, what: Spent | None = None) -> None:
        """Note a PREPARE or START that was read, and the bytes that came with it.

        If it is not known what the api took for it, all of its key has to be said again.
        """
        self.seen += 1
        self.received += count
        self._touched.add(key)
        if what is None:
            self._free = -1
            return
        before = self._believed.pop(key, Warm(key, 0))
        is_idle = what == "idle"
        if is_idle and self._free > 0:
            self._free -= 1
        else:
            self._lent -= is_idle
        left = Warm(key, before.idle - is_idle, before.ahead - (not is_idle))
        if left.idle or left.ahead:
            self._believed[key] = left

    def next(
        self,
        session: int,
        free: int,
        idle: dict[str, int],
        ahead: dict[str, int],
        window: int,
        *,
        lent: int = 0,
        eager: bool = True,
    ) -> Credit | None:
        """Return the CREDIT that is due: anything is new, or ``window`` bytes came in.

        If not ``eager``, what was read and places ahead that a START opened are not new.
        """
        now = {key: Warm(key, idle.get(key, 0), ahead.get(key, 0)) for key in {**idle, **ahead}}
        is_wrong = (free, lent) != (self._free, self._lent) or self._claims_other(now)
        is_new = eager and (self.is_behind or now != self._believed)
        is_full = self.received - self._acknowledged >= window
        return self._say(session, free, lent, now) if is_wrong or is_new or is_full else None

    def _claims_other(self, now: dict[str, Warm]) -> bool:
        """Return whether the api could do with less or more than it believes there is."""
        if now.keys() != self._believed.keys():
            keys = now.keys() ^ self._believed.keys()
            if any(key in self._believed or now[key].idle for key in keys):
                return True
        return any(
            now[key].idle != believed.idle or now[key].ahead < believed.ahead
            for key, believed in self._believed.items()
        )

    def _say(self, session: int, free: int, lent: int, now: dict[str, Warm]) -> Credit:
        # Of a key that the api spent on it has to hear the count even if that is the same.
        told = {**{key: Warm(key, 0) for key in (*self._believed, *self._touched)}, **now}
        changed = [
            warm
            for key, warm in told.items()
            if key in self._touched or warm != self._believed.get(key, Warm(key, 0))
        ]
        self._believed, self._touched = dict(now), set()
        self._free, self._lent = free, lent
        self._told, self._acknowledged = self.seen, self.received
        changed.sort(key=lambda warm: warm.key)
        return Credit(
            session=session,
            seen=self.seen,
            free=free,
            warm=tuple(changed),
            received=self.received,
            lent=lent,
        )
