"""How much of what is freed stays with a process, for the next large message."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

# From <malloc.h>.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3


def keep_freed(most: int) -> None:
    """Have the C library keep freed memory, up to so many bytes, instead of giving it back.

    Else a large message gets pages that are new at each of its copies, and a page that is new
    costs more than what is copied into it. A C library without such settings does as it does.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, most)
        mallopt(_TRIM_THRESHOLD, most)
