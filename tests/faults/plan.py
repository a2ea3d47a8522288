"""The faults: each is done to a scene under load, and over when it returns."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from tests.conftest import eventually
from tests.faults.scene import FROZEN_S, Scene

PARTS: Final = ("api", "dbnode", "worker", "zygote", "miniworker", "sandbox")
#: Long enough for a heartbeat or two to be missed, and a request to be asked again.
SHORT_S: Final = 4.0
HOGS: Final = 64
HOGGED_S: Final = 3.0
#: A package that takes several pieces.
LARGE: Final = 3 << 20

Fault = Callable[[Scene], None]


def kill(what: str, made: Scene) -> None:
    """SIGKILL one; whoever started it starts another."""
    made.strike(what, signal.SIGKILL)


def restart(what: str, made: Scene) -> None:
    """Tell one to end in order; whoever started it starts another."""
    made.strike(what, signal.SIGTERM)


def freeze(what: str, made: Scene) -> None:
    """SIGSTOP one for longer than anybody waits for a sign of life, then let it go on."""
    thaw(made.strike(what, signal.SIGSTOP))


def thaw(pid: int, after_s: float = FROZEN_S) -> None:
    """Let a process go on after a while."""
    try:
        time.sleep(after_s)
    finally:
        # Somebody may have killed it meanwhile.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def starve(_: Scene) -> None:
    """Take the processors from everybody."""
    hogs = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(HOGS)]
    try:
        time.sleep(HOGGED_S)
    finally:
        for hog in hogs:
            hog.kill()
        for hog in hogs:
            hog.wait()


def _wire(what: str, made: Scene) -> str:
    return made.dice.choice(made.nodes_of(what)) if what in ("node", "pub") else what


def delay(what: str, made: Scene, for_s: float = SHORT_S) -> None:
    """Hold what passes; all of it comes late."""
    wire = _wire(what, made)
    made.wires.hold(wire)
    try:
        time.sleep(for_s)
    finally:
        made.wires.release(wire)


def lose(what: str, made: Scene) -> None:
    """Hold what passes, then lose all of it with the connections."""
    wire = _wire(what, made)
    made.wires.hold(wire)
    try:
        time.sleep(1.0)
    finally:
        made.wires.drop(wire)
        made.wires.release(wire)


def cut(what: str, made: Scene, for_s: float = SHORT_S) -> None:
    """Break the connections, and let nobody connect for a while."""
    wire = _wire(what, made)
    made.wires.cut(wire)
    try:
        time.sleep(for_s)
    finally:
        made.wires.mend(wire)


def _container(made: Scene) -> str:
    dock = made.dock
    assert dock is not None
    return str(
        made.dice.choice(eventually(lambda: sorted(dock.containers()), 60, "containers"))
    )


def kill_container(made: Scene) -> None:
    """Kill a container by its engine."""
    assert made.dock is not None
    # It may have gone meanwhile.
    with suppress(AssertionError):
        made.dock.docker("kill", _container(made))


def restart_container(made: Scene) -> None:
    """Have a container end and begin anew behind its miniworker's back, as any user may."""
    assert made.dock is not None
    # It may have gone meanwhile, or be removed before it has begun anew.
    with suppress(AssertionError):
        made.dock.docker("restart", "--time", "1", _container(made))


def pause_container(made: Scene) -> None:
    """Freeze all of a container for a while."""
    assert made.dock is not None
    one = _container(made)
    with suppress(AssertionError):
        made.dock.docker("pause", one)
        time.sleep(FROZEN_S)
        made.dock.docker("unpause", one)


def kill_engine(made: Scene) -> None:
    """Kill the engine, and start it again; it ends what it finds running."""
    assert made.dock is not None
    made.dock.kill()
    time.sleep(SHORT_S)
    made.dock.start()


def restart_engine(made: Scene) -> None:
    """Have the engine end in order, with all its containers, and start it again."""
    assert made.dock is not None
    made.dock.end()
    made.dock.start()


def freeze_engine(made: Scene) -> None:
    """Let the engine answer nobody for a while."""
    assert made.dock is not None
    made.hit("engine", made.dock.pid, signal.SIGSTOP)
    thaw(made.dock.pid)


ENGINE_FAULTS: Final[dict[str, Fault]] = {
    "kill container": kill_container,
    "restart container": restart_container,
    "freeze container": pause_container,
    "kill engine": kill_engine,
    "restart engine": restart_engine,
    "freeze engine": freeze_engine,
}


def cut_far(made: Scene, for_s: float = FROZEN_S) -> None:
    """Let every packet to and from the far node vanish for a while; nobody is told."""
    assert made.far is not None
    made.far.net.cut(made.far.node)
    try:
        time.sleep(for_s)
    finally:
        made.far.net.mend(made.far.node)


FAR_FAULTS: Final[dict[str, Fault]] = {
    "cut the far node off": cut_far,
    "cut the far node off briefly": partial(cut_far, for_s=SHORT_S),
}

#: What can be done at any time, by name.
FAULTS: Final[dict[str, Fault]] = {
    **{f"kill {what}": partial(kill, what) for what in PARTS},
    **{f"restart {what}": partial(restart, what) for what in PARTS},
    **{f"freeze {what}": partial(freeze, what) for what in PARTS},
    "starve all": starve,
    **{f"delay {what}": partial(delay, what) for what in ("node", "db", "pub")},
    **{f"lose {what}": partial(lose, what) for what in ("node", "db", "pub")},
    **{f"cut {what}": partial(cut, what) for what in ("db", "pub")},
    "cut node": partial(cut, "node", for_s=FROZEN_S),
    "delay node beyond the limit": partial(delay, "node", for_s=FROZEN_S),
}


def _struck(made: Scene, what: str, number: int) -> Callable[[], None]:
    """Return what strikes one process, which is chosen now: the moment leaves no time."""
    pid = made.one_of(what)
    return lambda: made.hit(what, pid, number)


def moment(
    wire: str, message: str, way: str, what: str, when: str, make: str, made: Scene
) -> None:
    """Strike ``what`` just before or after a message passes a wire.

    ``what`` may be ``node``: the worker at the other end of that very wire. ``make`` has the
    message sent: by a new ``revision`` with a large package, or by the load.
    """
    wire, what = (made.dice.choice(made.wires.nodes), what) if wire == "node" else (wire, what)
    struck = _struck(made, wire if what == "node" else what, signal.SIGKILL)

    def provoke() -> None:
        if make == "revision":
            made.register(made.dice.choice(["once", "again"]), filler=LARGE)

    acts: dict[str, Any] = {when: struck}
    made.at(wire, message, way, provoke, **acts)


def thawed_after_start(made: Scene) -> None:
    """Freeze a worker with a START in its socket that it has not read, beyond the limit."""
    node = made.dice.choice(made.wires.nodes)
    pid = made.one_of(node)
    made.at(node, "Start", "back", before=lambda: made.hit(node, pid, signal.SIGSTOP))
    thaw(pid)


def lost_publication(made: Scene) -> None:
    """Lose a publication of the catalogue, the last for a while, on its way to one node."""
    node = made.dice.choice(made.wires.nodes)
    made.at(
        f"{node}.pub", "Catalogue", "back",
        lambda: made.register("again"), before=lambda: True,
    )  # fmt: skip


_MOMENTS: Final = {
    "kill worker before START": ("node", "Start", "back", "node", "before", ""),
    "kill worker right after START": ("node", "Start", "back", "node", "after", ""),
    "kill api right after START": ("node", "Start", "back", "api", "after", ""),
    "kill api between accept and dispatch": ("db", "writeCalls", "back", "api", "before", ""),
    "kill api between result and RECORDED": ("node", "Result", "there", "api", "after", ""),
    "kill worker after RESULT": ("node", "Result", "there", "node", "after", ""),
    "kill worker before RECORDED": ("node", "Recorded", "back", "node", "before", ""),
    "kill dbnode during a write": ("db", "writeCalls", "there", "dbnode", "after", ""),
    "kill api during a package": ("node", "Chunk", "back", "api", "after", "revision"),
    "kill worker during a package": ("node", "Chunk", "back", "node", "after", "revision"),
    "kill api while a revision changes": (
        "db", "registerFunction", "back", "api", "before", "revision",
    ),
    "kill dbnode while a revision changes": (
        "db", "registerFunction", "there", "dbnode", "after", "revision",
    ),
}  # fmt: skip

#: What is done at the moment when something passes on the wire, by name.
MOMENTS: Final[dict[str, Fault]] = {
    **{name: partial(moment, *facts) for name, facts in _MOMENTS.items()},
    "freeze worker before START": thawed_after_start,
    "lose a publication": lost_publication,
}


def strike(made: Scene, *names: str) -> None:
    """Do faults one right after the other, and count them."""
    for name in names:
        made.faults[name] += 1
        {**FAULTS, **MOMENTS, **ENGINE_FAULTS, **FAR_FAULTS}[name](made)
