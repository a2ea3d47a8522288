"""Images that a node is to have: asked for once, told to all, and looked for again if gone."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

import pytest

from tests.conftest import soon
from wire import jobs
from wire.codec import Message
from wire.models import Fault, Reason
from worker.failures import NoBundle
from worker.minis import Minis
from worker.pulls import Pulls

IMAGE = "registry.example/python:1"
REASON = Reason(code="image_unavailable", message="no")


class Forks:
    """As much of the miniworkers as a pull needs: what they were told."""

    def __init__(self) -> None:
        self.told: dict[str, list[Message]] = {}
        self.killed: list[str] = []

    def spawn(self, name: str) -> None:
        self.told[name] = []

    def tell(self, name: str, message: Message) -> None:
        self.told[name].append(message)

    def kill(self, name: str) -> None:
        self.killed.append(name)


def pulls(forks: Forks, policy: Any = "missing", driver: str = "docker") -> Pulls:
    return Pulls(cast("Minis", forks), driver, policy)


async def test_one_is_pulled_for_all_who_wait_and_not_again() -> None:
    forks = Forks()
    made = pulls(forks)
    heard: list[str] = []
    waiting = [asyncio.create_task(made.have(IMAGE, heard.append)) for _ in range(3)]
    await soon(lambda: "p1" in forks.told)
    made.heard("p1", jobs.Up(miniworker="p1", pid=1))
    assert forks.told["p1"] == [jobs.Pull(image=IMAGE, how="missing")]
    # One who leaves does not end it for the others.
    waiting.pop().cancel()
    await asyncio.sleep(0)
    made.heard("p1", jobs.Pulling(percent=40))
    made.heard("p1", jobs.Pulling(percent=41))
    made.heard("p1", jobs.Pulled(reason=None, baked="b"))
    steps = await asyncio.gather(*waiting)
    assert [[step.stage for step in one] for one in steps] == [["pull"], ["pull"]]
    assert heard == [f"pulling {IMAGE}: 40 %"] * 2
    assert forks.told["p1"][-1] == jobs.Stop()
    assert await made.have(IMAGE, heard.append) == ()
    assert await made.baked(IMAGE, "b", heard.append) == ()
    made.forget(IMAGE)
    again = asyncio.create_task(made.have(IMAGE, heard.append))
    await soon(lambda: "p2" in forks.told)
    await made.close()
    with pytest.raises(asyncio.CancelledError):
        await again
    assert forks.killed == ["p2"]


async def test_a_failure_is_told_to_all_and_tried_anew_by_the_next() -> None:
    forks = Forks()
    made = pulls(forks)
    for name in ("p1", "p2"):
        waiting = [asyncio.create_task(made.have(IMAGE, print)) for _ in range(2)]
        await soon(partial(forks.told.__contains__, name))
        if name == "p1":
            made.heard(name, jobs.Pulled(reason=REASON, fault=Fault.FUNCTION))
        else:
            made.exited(name, "it was killed")
        for one in waiting:
            with pytest.raises(NoBundle) as error:
                await one
            assert error.value.reason.code == "image_unavailable"
    assert made.endings == {"failed": 2}
    # Of other miniworkers nothing is taken.
    assert not made.heard("m1", jobs.Pulled(reason=None))
    assert not made.exited("m1", "")


@pytest.mark.parametrize(
    ("image", "policy", "driver"),
    [
        ("pythonruntime", "always", "docker"), (IMAGE, "never", "docker"),
        (IMAGE, "missing", "process"),
    ],
)  # fmt: skip
async def test_what_may_not_be_pulled_is_asked_of_nobody(
    image: str, policy: str, driver: str
) -> None:
    forks = Forks()
    assert await pulls(forks, policy, driver).have(image, print) == ()
    assert forks.told == {}


async def test_a_baked_image_that_is_another_is_looked_for_again_now_and_then() -> None:
    forks = Forks()
    made = pulls(forks)

    async def asked(wanted: str, *said: jobs.Pulled) -> tuple[bool, list[Message]]:
        before = len(forks.told)
        waiting = asyncio.create_task(made.baked(IMAGE, wanted, print))
        for at, answer in enumerate(said, before + 1):
            await soon(partial(forks.told.__contains__, f"p{at}"))
            made.heard(f"p{at}", jobs.Up(miniworker=f"p{at}", pid=1))
            made.heard(f"p{at}", answer)
        is_it = await waiting is not None
        return is_it, [told[0] for told in list(forks.told.values())[before:]]

    old, new = (jobs.Pulled(reason=None, baked=one) for one in ("old", "new"))
    here = jobs.Pull(image=IMAGE, how="missing")
    anew = jobs.Pull(image=IMAGE, how="always")
    # Its registry may have another by the same name.
    assert await asked("new", old, new) == (True, [here, anew])
    # Another function's, so to say: that was looked for just now.
    assert await asked("newer") == (False, [])
    made._looked_at.clear()
    # A registry that is away is no reason to fail: the function runs without its image.
    away = jobs.Pulled(reason=REASON, fault=Fault.NODE)
    assert await asked("newer", away) == (False, [anew])


async def test_a_baked_image_without_a_registry_is_looked_for_and_not_pulled() -> None:
    forks = Forks()
    made = pulls(forks, "always")
    waiting = asyncio.create_task(made.baked("dice:1", "b", print))
    await soon(lambda: "p1" in forks.told)
    made.heard("p1", jobs.Up(miniworker="p1", pid=1))
    assert forks.told["p1"] == [jobs.Pull(image="dice:1", how="never")]
    made.heard("p1", jobs.Pulled(reason=None, baked="b"))
    assert [step.stage for step in await waiting or ()] == ["pull"]
    assert await pulls(forks, "missing", "process").baked("dice:1", "b", print) is None
