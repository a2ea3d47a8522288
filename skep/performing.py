"""The two ways to perform a dialogue: waiting for each step, and awaiting it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from skep.dialogue import Answer, Dialogue, Ended, Lost, Pause, Request, advance

T = TypeVar("T")


def perform(
    dialogue: Dialogue[T],
    send: Callable[[Request], Answer | Lost],
    sleep: Callable[[float], object],
) -> T:
    """Carry out a dialogue to its end and return its value."""
    reply: Answer | Lost | None = None
    while not isinstance(step := advance(dialogue, reply), Ended):
        if isinstance(step, Pause):
            sleep(step.seconds)
            reply = None
        else:
            reply = send(step)
    return step.value


async def perform_async(
    dialogue: Dialogue[T],
    send: Callable[[Request], Awaitable[Answer | Lost]],
    sleep: Callable[[float], Awaitable[object]],
) -> T:
    """Carry out a dialogue as ``perform`` does, while the loop goes on."""
    reply: Answer | Lost | None = None
    while not isinstance(step := advance(dialogue, reply), Ended):
        if isinstance(step, Pause):
            await sleep(step.seconds)
            reply = None
        else:
            reply = await send(step)
    return step.value
