"""What goes to the worker and comes from it: PACKs are taken apart, ends of a turn packed."""

from __future__ import annotations

from typing import Final

from wire import jobs, packs
from wire.codec import FRAMES, Frames, Message, encode
from wire.dealer import Dealer

#: The only peer of its socket, as PACKs are made for one.
_WORKER: Final[set[packs.Route]] = {()}
#: At its end a miniworker waits this long for its last words to be read.
LINGER_MS: Final = 1000


class Upstream:
    """The socket to the worker, and what waits to be said by it."""

    def __init__(self, endpoint: str) -> None:
        self._dealer = Dealer(endpoint)
        #: To be polled; ``may_sleep`` says whether it is worth waiting for.
        self.fd = self._dealer.fd
        #: Whether a message was sent since the socket had none to read.
        self._has_sent = False
        #: Ends that leave together; and whether the worker knows PACKs, for it has sent one.
        self._out: list[Frames] = []
        self._may_pack = False

    def __repr__(self) -> str:
        return f"<Upstream {self._dealer!r}, {len(self._out)} to say>"

    def receive(self) -> list[list[bytes]] | None:
        """Return the frames of the next message, or of those of the next PACK, if there is one.

        Raises:
            ProtocolError: it is a PACK that is none.
        """
        if not self._dealer.has_message:
            self._has_sent = False
            return None
        frames = self._dealer.receive(FRAMES) or []
        if not frames or frames[0] != packs.HEAD:
            return [frames]
        self._may_pack = True
        return packs.unpacked(frames)

    @property
    def may_sleep(self) -> bool:
        """Return whether its descriptor will tell what comes."""
        # What was sent may have eaten the edge, so ask once more.
        return not (self._has_sent and self._dealer.has_message)

    def tell(self, message: Message, payload: bytes = b"") -> None:
        """Say something: an end with others of its turn, all else at once."""
        self._out.append(encode(message, payload))
        if not (self._may_pack and isinstance(message, jobs.Done)):
            self.flush()

    def flush(self) -> None:
        """Send what collected."""
        if not self._out:
            return
        self._has_sent = True
        out, self._out = self._out, []
        for frames in packs.packed(out, _WORKER) if self._may_pack else out:
            self._dealer.send(frames)

    def close(self) -> None:
        """Hang up once all is said."""
        self._dealer.close(LINGER_MS)
