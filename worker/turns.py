"""Whose turn it is to be made, where only so many may be at once. Pure."""

from __future__ import annotations

from collections.abc import Collection

from worker.actions import Action, Premake, Specialise
from worker.boxes import Sandbox, Stage


def queued(boxes: Collection[Sandbox]) -> list[Sandbox]:
    """Return those that wait for their turn: those for calls first, then first come first."""
    return sorted((b for b in boxes if b.stage is Stage.QUEUED), key=lambda b: b.is_ahead)


def begin(boxes: Collection[Sandbox], most: int, now: float) -> list[Action]:
    """Have as many made as may be; a claimed one is only loaded, and takes no turn."""
    made = sum(1 for b in boxes if b.stage is Stage.SPECIALISING and not b.is_claimed)
    orders: list[Action] = []
    for box in queued(boxes)[: max(0, most - made)]:
        if box.spec is None:
            continue
        box.has_its_turn(now)
        if box.is_generic:
            orders.append(Premake(box.name, box.spec))
        else:
            orders.append(Specialise(box.name, box.spec, box.bundle))
    return orders
