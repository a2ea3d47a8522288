"""Throw darts at a square and count those in its circle.

The same seed gives the same darts, on whichever node: that makes it idempotent.
"""

import random
import time


def main(darts, seed, pause):
    throw = random.Random(seed).random
    hits = sum(throw() ** 2 + throw() ** 2 < 1 for _ in range(darts))
    # So that a node has calls in hand when it dies.
    time.sleep(pause)
    return {"darts": darts, "hits": hits}
