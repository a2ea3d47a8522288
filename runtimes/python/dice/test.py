"""Roll dice: {"roll": "4d6"} on stdin, the numbers as JSON on stdout."""

from __future__ import annotations

import json
import random
import re
import sys

MOST_DICE = 1000
MOST_SIDES = 1_000_000


def roll(text: object) -> list[int]:
    """Return what each of the dice shows; raise ValueError if the text is no roll."""
    match = re.fullmatch(r"([0-9]{1,4})d([0-9]{1,7})", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f'"roll" must look like "4d6" (how many dice, d, sides), not {text!r}')
    dice, sides = int(match.group(1)), int(match.group(2))
    if not 1 <= dice <= MOST_DICE:
        raise ValueError(f"roll 1 to {MOST_DICE} dice, not {dice}")
    if not 1 <= sides <= MOST_SIDES:
        raise ValueError(f"dice have 1 to {MOST_SIDES} sides, not {sides}")
    return [random.randint(1, sides) for _ in range(dice)]


def main() -> None:
    """Read the params, print the result."""
    params = json.load(sys.stdin)
    if not isinstance(params, dict) or "roll" not in params:
        raise ValueError('the params must be an object like {"roll": "4d6"}')
    print(json.dumps(roll(params["roll"]), separators=(",", ":")))


if __name__ == "__main__":
    main()
