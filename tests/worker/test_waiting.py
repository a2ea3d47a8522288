"""Sandboxes that wait for calls, over real sockets and with real processes."""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import children, soon
from tests.worker.scripted import KEY, ScriptedApi, items, node, package
from tests.worker.test_node import joined, sha
from wire import messages as m
from wire.models import Fault, Item, Status, Warmth
from worker.folder import NodeFolder
from worker.node import Node
from worker.pool import PoolSettings
from worker.pressure import Reading
from worker.sandbox import choose
from worker.settings import Settings

GENERIC = ("python", 2)


async def beating(api: ScriptedApi, **facts: Any) -> None:
    """Wait for a heartbeat from now on that says so."""
    seen = len(api.of(m.WorkerHeartbeat))

    def said() -> bool:
        beats = api.of(m.WorkerHeartbeat)[seen:]
        return bool(beats) and all(getattr(beats[-1], k) == v for k, v in facts.items())

    await soon(said, what=f"a heartbeat with {facts}")


def change(api: ScriptedApi, item: Item) -> None:
    """Say that the catalogue has changed, at one place after what is known."""
    at, items_ = item.seq, (item,)
    message = m.Catalogue(
        session=api.session, epoch="store-1", after=at - 1, seq=at, items=items_
    )
    api.say(message)


def function(seq: int, *, name: str = "echo", deleted: bool = False, **settings: Any) -> Item:
    _, item = items(package(), name=name, seq=seq - 1, **settings)
    return Item(seq=seq, function=item.function, deleted=deleted)


def made_of(result: m.Result) -> m.Made | None:
    assert result.outcome is not None
    assert result.outcome.status is Status.DONE, result.outcome.reason
    return result.outcome.made


async def test_the_first_call_of_a_new_function_takes_a_generic_sandbox(tmp_path: Path) -> None:
    with node(tmp_path / "d", "--preload", "runtime") as (api, worker):
        await joined(api)
        await beating(api, generic=(GENERIC,), warm=(), preload="runtime")
        result, _ = await api.call(1)
        made = made_of(result)
        assert made is not None
        assert (made.generic, made.because) == ("python", "first")
        assert {"fetch", "load"} <= made.stages.keys()
        # The place is filled, and the claimed one stays the function's.
        await beating(api, generic=(GENERIC,), warm=((KEY, 1),), starts=(0, 1, 0))
        api.start(2)
        assert made_of((await api.end(2))[0]) is None
        await beating(api, starts=(1, 1, 0))
        api.say(m.Recorded(session=1, upto=2))
        assert await worker.stop() == 0


@pytest.mark.parametrize(("policy", "generic"), [("none", "none"), ("runtime", "none")])
async def test_a_function_says_itself_that_it_wants_nothing(
    tmp_path: Path, policy: str, generic: str
) -> None:
    with node(tmp_path / "d", "--preload", policy) as (api, _):
        await joined(api, preload=generic)
        await api.get(m.Credit)
        result, _ = await api.call(1)
        made = made_of(result)
        assert made is not None
        assert made.generic == ""
        assert made.stages["sandbox"] > 0


async def test_a_function_waits_loaded_and_its_first_call_is_warm(tmp_path: Path) -> None:
    with node(tmp_path / "d", "--preload", "function") as (api, _):
        await joined(api)
        await soon(
            lambda: any(m.Warm(KEY, 1) in credit.warm for credit in api.of(m.Credit)),
            what="a credit for a function that was never called",
        )
        api.start(1)
        result, _ = await api.end(1)
        assert made_of(result) is None
        assert result.outcome is not None
        assert result.outcome.start is Warmth.WARM


async def test_what_should_wait_comes_with_the_catalogue(tmp_path: Path) -> None:
    """Registration, a changed minWarm, DELETE: each by its publication, none by a call."""
    with node(tmp_path / "d", "--max-warm", "8") as (api, _):
        await joined(api, min_warm=1)
        await beating(api, warm=((KEY, 1),))
        other = package(b"print(2)")
        api.packages[sha(other)] = other
        change(api, function(3, name="late", preload="function"))
        await beating(api, warm=((KEY, 1), ("default/late@1.1", 1)))
        (_, item) = items(package(), seq=3, min_warm=3)
        assert item.function is not None
        second = Item(seq=4, function=msgspec.structs.replace(item.function, revision=2))
        change(api, second)
        await beating(api, warm=(("default/echo@2.1", 3), ("default/late@1.1", 1)))
        change(api, Item(seq=5, function=second.function, deleted=True))
        await beating(api, warm=(("default/late@1.1", 1),))


async def test_many_functions_share_one_pool_of_generic_sandboxes(tmp_path: Path) -> None:
    with node(tmp_path / "d", "--preload", "runtime", "--max-warm", "4") as (api, _):
        await joined(api)
        for number in range(1, 7):
            name = f"f{number}"
            data = package(b"print(%d)" % number)
            api.packages[sha(data)] = data
            _, item = items(data, name=name, seq=number + 1)
            change(api, item)
            await beating(api, generic=(GENERIC,))
            key = f"default/{name}@1.1"
            api.prepare(number, key=key)
            await api.get(m.Ready, number)
            api.start(number, key=key)
            made = made_of((await api.end(number))[0])
            assert made is not None
            assert made.generic == "python"
        assert api.of(m.Returned) == []


async def test_a_claim_whose_package_cannot_be_had_harms_nobody(tmp_path: Path) -> None:
    with node(tmp_path / "d", "--preload", "runtime") as (api, _):
        bad = b"this is no archive"
        await joined(api, bad)
        await beating(api, generic=(GENERIC,))
        api.prepare(1)
        returned = await api.get(m.Returned)
        assert returned.fault is Fault.FUNCTION
        beats = len(api.of(m.WorkerHeartbeat))

        def all_wait() -> bool:
            last = api.of(m.WorkerHeartbeat)[beats:][-1:]
            # Two, or three if its place was filled before the package was found to be bad.
            return any(
                b.sandboxes >= 2 and b.generic == (("python", b.sandboxes),) for b in last
            )

        await soon(all_wait, what="every sandbox is generic again")


def zygote_children(worker: int) -> set[int]:
    """Return the pids of the miniworkers of a worker."""
    (zygote,) = _children_of(worker)
    return set(_children_of(zygote))


def _children_of(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_killed_generic_miniworkers_are_replaced_and_leave_nothing(
    tmp_path: Path,
) -> None:
    before = children()
    with node(tmp_path / "d", "--preload", "runtime") as (api, worker):
        await joined(api)
        await beating(api, generic=(GENERIC,))
        first = zygote_children(worker.process.pid)
        assert len(first) == 2
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        await soon(lambda: not first & children(), what="both are gone")
        await soon(lambda: len(zygote_children(worker.process.pid) - first) == 2)
        await beating(api, generic=(GENERIC,))
        made = made_of((await api.call(1))[0])
        assert made is not None
        assert made.generic == "python"
        api.say(m.Recorded(session=1, upto=1))
        assert await worker.stop() == 0
    await soon(lambda: not children() - before)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_nothing_that_waited_is_left_at_the_end(tmp_path: Path, how: int) -> None:
    before = children()
    with node(tmp_path / "d", "--preload", "runtime", sandbox="process") as (api, worker):
        await joined(api, min_warm=1)
        await beating(api, generic=(GENERIC,), warm=((KEY, 1),))
        assert len(children() - before) > 5
        await worker.stop(how)
        if how == signal.SIGTERM:
            assert not list((tmp_path / "d").glob("run/*"))
        await soon(lambda: not children() - before, what="all processes are gone")


async def test_a_real_sandbox_is_claimed_and_finds_its_code(tmp_path: Path) -> None:
    code = b"import sys,json\nprint(json.load(sys.stdin)['a']*2)"
    with node(tmp_path / "d", "--preload", "runtime", sandbox="process") as (api, worker):
        await joined(api, package(code), dependencies="echo installed > mark")
        await beating(api, generic=(GENERIC,))
        result, payload = await api.call(1, {"a": 21})
        made = made_of(result)
        assert made is not None
        assert made.generic == "python"
        assert payload[: result.sizes[1]].strip() == b"42"
        bundles = tmp_path / "d" / "nodes" / "n1" / "bundles"
        assert bundles.stat().st_mode & 0o777 == (0o111 if os.geteuid() == 0 else 0o311)
        api.say(m.Recorded(session=1, upto=1))
        assert await worker.stop() == 0
        assert bundles.stat().st_mode & 0o777 == 0o711


class Memory:
    """A reading that a test decides."""

    def __init__(self) -> None:
        self.reading = Reading(50, 100)

    def __call__(self) -> Reading:
        return self.reading


async def test_tight_memory_empties_the_pools_and_they_fill_again(tmp_path: Path) -> None:
    api, memory = ScriptedApi(), Memory()
    folder = NodeFolder(tmp_path, "n1", secrets.token_hex(8))
    folder.open()
    settings = Settings(
        name="n1", api=api.endpoint, pub=api.pub, slots=2, preload="runtime",
        pool=PoolSettings(max_warm=6),
    )  # fmt: skip
    running = Node(settings, folder, "b" * 16, choose("fake", folder, "b" * 16), memory)
    try:
        running.start()
        await joined(api, min_warm=1)
        await beating(api, generic=(GENERIC,), warm=((KEY, 1),))
        memory.reading = Reading(8, 100)
        # What a function asked for is kept while memory is only tight.
        await beating(api, generic=(), warm=((KEY, 1),))
        memory.reading = Reading(3, 100)
        await beating(api, generic=(), warm=(), sandboxes=0)
        # A call is served all the same.
        assert made_of((await api.call(1))[0]) is not None
        memory.reading = Reading(50, 100)
        await beating(api, generic=(GENERIC,), warm=((KEY, 1),))
        api.say(m.Recorded(session=1, upto=1))
        await running.stop()
    finally:
        folder.close()
        api.close()
