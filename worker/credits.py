"""What to grant the api: absolute counts, and only of keys that it must hear about. Pure."""

from __future__ import annotations

from wire.messages import Credit, Warm


class Credits:
    """The grants of one session; ``restart`` when another begins."""

    def __init__(self) -> None:
        self.seen = 0
        self.received = 0
        self._granted: dict[str, Warm] = {}
        self._touched: set[str] = set()
        self._last: tuple[int, int] | None = None
        self._acknowledged = 0

    def __repr__(self) -> str:
        return f"<Credits: {self.seen} seen, {len(self._granted)} keys granted>"

    def restart(self) -> None:
        """Begin a session: nothing is granted, nothing was read."""
        self.__init__()  # type: ignore[misc]

    def spent(self, key: str, count: int) -> None:
        """Note a PREPARE or START that was read, and the bytes that came with it."""
        self.seen += 1
        self.received += count
        # The api has subtracted it from this key: say the count even if it is the same.
        self._touched.add(key)

    def next(
        self, session: int, free: int, idle: dict[str, int], ahead: dict[str, int], window: int
    ) -> Credit | None:
        """Return the CREDIT that is due, if anything changed or ``window`` bytes came in."""
        now = {key: Warm(key, idle.get(key, 0), ahead.get(key, 0)) for key in {**idle, **ahead}}
        told = self._granted.keys() | self._touched
        changed = [
            now.get(key) or Warm(key, 0)
            for key in now.keys() | told
            if key in self._touched or now.get(key) != self._granted.get(key)
        ]
        same = self._last == (self.seen, free)
        if same and not changed and self.received - self._acknowledged < window:
            return None
        self._granted, self._touched = now, set()
        self._last, self._acknowledged = (self.seen, free), self.received
        changed.sort(key=lambda warm: warm.key)
        return Credit(
            session=session,
            seen=self.seen,
            free=free,
            warm=tuple(changed),
            received=self.received,
        )
