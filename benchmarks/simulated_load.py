"""Calls as a platform gets them: few functions often, most hardly ever; by day, in bursts."""

from __future__ import annotations

import itertools
import math
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from tests.virtual.script import Ending, Trouble
from tests.virtual.timeline import Timeline
from wire.models import Function, Runtime, Spec
from worker.actions import Id

_MEMORIES: Final = (64, 128, 128, 256, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A day, made short."""

    seed: int = 1
    functions: int = 300
    calls: int = 5_000
    #: A whole day, from noon to noon: its rate swings by ``swing`` around the mean.
    seconds: float = 50.0
    swing: float = 0.6
    #: The exponent of the popularity of functions.
    zipf: float = 1.1
    #: Part of the calls that come in bursts, and how many of one function in one second.
    in_bursts: float = 0.15
    burst: int = 100
    #: Medians of what functions run for and of what making a sandbox takes, and their spread.
    run_s: float = 5.0
    make_s: float = 0.8
    spread: float = 0.9


class Arrival(NamedTuple):
    """A call: when it comes, of what."""

    at: float
    key: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What one function is like."""

    spec: Spec
    run_s: float
    make_s: float


def shapes(load: Load) -> list[Shape]:
    """Return the functions, the most popular first."""
    dice = Random(load.seed)
    found = []
    for at in range(load.functions):
        function = Function(
            function_name=f"f{at}",
            runtime_name="python",
            revision=1,
            memory=dice.choice(_MEMORIES),
        )
        runtime = Runtime(name="python", image="python", path="/ws", revision=1)
        run_s = min(120.0, load.run_s * math.exp(dice.gauss(0, load.spread)))
        make_s = load.make_s * math.exp(dice.gauss(0, load.spread))
        found.append(Shape(Spec(function=function, runtime=runtime), run_s, make_s))
    return found


def arrivals(load: Load) -> Iterator[Arrival]:
    """Yield the calls; those of a burst come together."""
    dice = Random(load.seed + 1)
    weights = [1 / rank**load.zipf for rank in range(1, load.functions + 1)]
    sums = list(itertools.accumulate(weights))
    keys = [shape.spec.key for shape in shapes(load)]
    left = load.calls
    while left:
        key = keys[bisect(sums, dice.random() * sums[-1])]
        at = _moment(load, dice)
        if dice.random() < load.in_bursts / (load.burst * (1 - load.in_bursts)):
            count = min(left, load.burst)
            # Bursts are of any function: what is popular is busy anyway.
            key = dice.choice(keys)
            yield from (Arrival(at + dice.random(), key) for _ in range(count))
            left -= count
        else:
            yield Arrival(at, key)
            left -= 1


def _moment(load: Load, dice: Random) -> float:
    """Return a moment of the day, the busy ones more often."""
    while True:
        part = dice.random()
        if dice.random() * (1 + load.swing) < 1 + load.swing * math.cos(2 * math.pi * part):
            return part * load.seconds


class LoadScript:
    """How long each thing takes, by function; and what ran where."""

    def __init__(self, load: Load, timeline: Timeline) -> None:
        self._timeline = timeline
        self._dice = Random(load.seed + 2)
        self._shapes = {shape.spec.key: shape for shape in shapes(load)}
        self.specs = {key: shape.spec for key, shape in self._shapes.items()}
        #: When each call began, and the seconds of work that each node had.
        self.begun: dict[int, float] = {}
        self.work: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<LoadScript of {len(self.specs)} functions, {len(self.begun)} began>"

    def spec(self, key: str) -> Spec:
        """Return the revision of a key."""
        return self.specs[key]

    def fork_s(self) -> float:
        """Return how long a miniworker takes to fork."""
        return 0.01

    def bundle(self, key: str) -> float | Trouble:  # noqa: ARG002
        """Return how long the code takes to come."""
        return 0.005

    def make(self, spec: Spec) -> float | Trouble:
        """Return how long a sandbox takes to get ready."""
        return self._shapes[spec.key].make_s

    def begin(self, id_: Id, key: str, boot: str) -> Ending:
        """Note where an execution begins; it takes about what they all take."""
        seconds = self._shapes[key].run_s * (0.5 + self._dice.random())
        self.begun[id_[0]] = self._timeline.now
        self.work[boot] += seconds  # type: ignore[assignment]
        return Ending(seconds)
