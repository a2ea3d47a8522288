"""A link between two namespaces that delays and loses packets, where the kernel has no netem.

    python -m tests.apart.link NAMESPACE:DEVICE NAMESPACE:DEVICE

Two TUN devices, one in each namespace, and this program between them. It says ``ready`` once
packets pass, and ends with its stdin.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time
from contextlib import suppress
from typing import Final

DELAY_S: Final = 0.020
JITTER_S: Final = 0.005
#: One in a thousand packets is lost.
LOSS: Final = 0.001
BYTES_PER_S: Final = 7_500_000
#: As many packets wait in each direction; more are lost.
QUEUE: Final = 2000

_SETIFF: Final = 0x400454CA  # TUNSETIFF (linux/if_tun.h)
_TUN_NO_INFO: Final = 0x1001  # IFF_TUN | IFF_NO_PI
_NEWNET: Final = 0x40000000  # CLONE_NEWNET
_PACKET: Final = 65536


def opened(place: str) -> int:
    """Make the device of a ``NAMESPACE:DEVICE``; return its descriptor."""
    namespace, _, device = place.partition(":")
    where = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(where, _NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    os.close(where)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _SETIFF, struct.pack("16sH22x", device.encode(), _TUN_NO_INFO))
    return fd


class Way:
    """One direction of the link."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        #: When the line is free for the next packet, and the last one arrives.
        self._free = 0.0
        self._last = 0.0
        self.waiting = 0

    def due(self, size: int, now: float) -> float | None:
        """Return when a packet arrives; None if it is lost."""
        if self.waiting >= QUEUE or random.random() < LOSS:
            return None
        self._free = max(now, self._free) + size / BYTES_PER_S
        delay = random.uniform(DELAY_S - JITTER_S, DELAY_S + JITTER_S)
        # In order: what jitter turns round looks like loss to TCP.
        self._last = max(self._last, self._free + delay)
        return self._last


def pass_on(ends: tuple[int, int], stop: int) -> None:
    """Carry packets both ways until ``stop`` has ended."""
    ways = {a: Way(a, b) for a, b in (ends, ends[::-1])}
    under_way: list[tuple[float, int, Way, bytes]] = []
    count = 0
    while True:
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, _, way, packet = heapq.heappop(under_way)
            way.waiting -= 1
            # A device that is down takes none.
            with suppress(OSError):
                os.write(way.target, packet)
        wait_s = max(0.0, under_way[0][0] - now) if under_way else None
        ready, _, _ = select.select((*ways, stop), (), (), wait_s)
        if stop in ready:
            return
        for fd in ready:
            with suppress(OSError):
                packet = os.read(fd, _PACKET)
                way = ways[fd]
                due = way.due(len(packet), time.monotonic())
                if due is not None:
                    count += 1
                    way.waiting += 1
                    heapq.heappush(under_way, (due, count, way, packet))


def main() -> None:
    """Join two namespaces."""
    near, far = map(opened, sys.argv[1:])
    print("ready", flush=True)
    pass_on((near, far), sys.stdin.fileno())


if __name__ == "__main__":
    main()
