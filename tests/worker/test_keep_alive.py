"""Which idle sandbox leaves: three policies, each by what it looks at."""

from __future__ import annotations

from typing import Any

import pytest

from wire.models import Function, Runtime, Spec
from worker.actions import Stop
from worker.boxes import Sandbox, Stage
from worker.keep_alive import KEEP_ALIVES, KeepAlive
from worker.pool import STOP_S, Pool, PoolSettings

IDLE_S = 10.0


def spec(name: str, **more: Any) -> Spec:
    function = Function(function_name=name, runtime_name="py", revision=1, **more)
    return Spec(
        function=function, runtime=Runtime(name="py", image="py", path="/ws", revision=1)
    )


class Scene:
    """A pool for three, and functions that are made and used at moments that a test says."""

    def __init__(self, policy: KeepAlive) -> None:
        self.now = 0.0
        self.pool = Pool(PoolSettings(max_warm=3, idle_s=IDLE_S, keep_alive=policy))

    def make(self, of: Spec, took_s: float = 1.0) -> Sandbox:
        """Have one made, which takes so long, and let it wait."""
        pool = self.pool
        known = set(pool.sandboxes)
        pool.make(of.key, self.now)
        (name,) = set(pool.sandboxes) - known
        pool.up(name, self.now)
        pool.bundle(name, of, "bundle", self.now)
        self.now += took_s
        box = pool.sandboxes[name]
        pool.made(box, 0.0, self.now)
        pool.rest(box, self.now)
        return box

    def use(self, of: Spec, times: int = 1) -> None:
        for _ in range(times):
            box = self.pool.take(of.key, self.now)
            assert box is not None
            self.now += 0.1
            self.pool.rest(box, self.now)

    def leaving(self) -> set[str]:
        """Return of which functions sandboxes were told to leave."""
        return {box.key.split("@")[0][8:] for box in self.pool if box.stage is Stage.STOPPING}

    def crowd(self) -> set[str]:
        """Have one more made than there is room for; return who left for it."""
        self.make(spec("new"))
        return self.leaving()


A, B, C = spec("a"), spec("b"), spec("c")


@pytest.mark.parametrize("policy", KEEP_ALIVES)
def test_only_under_idle_one_leaves_though_there_is_room(policy: KeepAlive) -> None:
    scene = Scene(policy)
    box = scene.make(A)
    own = scene.make(spec("own", idle=3.0))
    orders = scene.pool.tick(scene.now + 2 * IDLE_S)
    # What a function itself says holds under each of them.
    assert Stop(own.name) in orders
    assert (Stop(box.name) in orders) is (policy == "idle")


@pytest.mark.parametrize("policy", ["idle", "lru"])
def test_the_one_unused_longest_makes_room(policy: KeepAlive) -> None:
    scene = Scene(policy)
    for one in (A, B, C):
        scene.make(one)
    scene.use(A)
    assert scene.crowd() == {"b"}


def test_under_greedy_dual_what_is_called_often_stays() -> None:
    scene = Scene("greedy-dual")
    for one in (A, B, C):
        scene.make(one)
    scene.use(A, times=5)
    scene.use(C)
    scene.use(B)
    scene.use(C)
    assert scene.crowd() == {"b"}


def test_under_greedy_dual_what_takes_long_to_make_stays() -> None:
    scene = Scene("greedy-dual")
    scene.make(A, took_s=9.0)
    scene.make(B, took_s=0.5)
    scene.make(C, took_s=3.0)
    assert scene.crowd() == {"b"}


def test_under_greedy_dual_what_holds_much_leaves() -> None:
    scene = Scene("greedy-dual")
    scene.make(spec("small", memory=64))
    scene.make(spec("large", memory=1024))
    scene.make(spec("middle", memory=256))
    assert scene.crowd() == {"large"}


def test_under_greedy_dual_what_was_called_often_once_leaves_in_the_end() -> None:
    scene = Scene("greedy-dual")
    scene.make(A)
    scene.use(A, times=8)
    left: set[str] = set()
    for at in range(60):
        scene.make(spec(f"f{at}"))
        for box in list(scene.pool):
            if box.stage is Stage.STOPPING:
                left.add(box.key.split("@")[0][8:])
                scene.pool.gone(box.name)
        if "a" in left:
            break
    assert "a" in left
    assert len(left) > 8
    # It counts from anew when it comes back.
    assert scene.pool.resting.of(A.key) == 0
    scene.pool.tick(scene.now + STOP_S)
