"""What a run of the simulation came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One run: what decided, and what came of it."""

    workers: int
    placement: str
    keep_alive: str
    calls: int
    #: Part of the calls for which a sandbox had to be made.
    cold: float
    #: From acceptance to the beginning of the execution, the making of a sandbox included.
    delay_p50_s: float
    delay_p99_s: float
    #: The work of the busiest node over the mean, and the coefficient of variation of all.
    busiest: float
    imbalance: float
    #: Mean number of sandboxes that are kept.
    sandboxes: float
