"""Compares what clients asked and were told, what ran, and what is stored."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from skep import Call, Client, SkepError
from tests.faults.load import ENDED
from tests.faults.scene import MAX_WAIT_S, Scene

#: timeout 5 s, what levels above wait beyond it, silence of a node, a restart.
GRACE_S: Final = 40
#: A call that may run again is LOST when so many attempts of it died.
DEATHS: Final = 3
#: An api and a worker that die so close to each other die together.
TOGETHER_S: Final = 15.0
#: Answers of that long before the death of an api may have no record yet: the collecting of
#: records, a write under way, and the time that a kill and this clock are apart.
WINDOW_S: Final = 2.0


def reckon(made: Scene) -> dict[str, Any]:
    """Wait for the end of every accepted call; fail at the first broken promise."""
    load = made.load
    records: dict[int, Call] = {}
    vanished = []
    with made.hive.client() as client:
        listed = {call["callNum"]: call for call in client.iter_calls()}
        for num in load.accepted:
            record = _ended(client, num, listed.get(num))
            if record is None:
                assert num in load.keyless, f"call {num} was accepted and is unknown"
                vanished.append(num)
            else:
                records[num] = record
        _once(client, made)
    for num, call in records.items():
        _judge(made, num, call)
    for num in vanished:
        assert _in_window(made, load.answered[num][1]), load.answered[num]
    twice = {key: nums for key, nums in load.keys.items() if len(nums) != 1}
    assert not twice, twice
    return _numbers(made, records, vanished)


def _ended(client: Client, num: int, call: Call | None) -> Call | None:
    """Wait for the end of a call; None if there is none of that number."""
    try:
        call = call or client.call(num)
    except SkepError as error:
        if error.code == "unknown_call":
            return None
        raise
    return call if call["status"] in ENDED else client.wait_call(call, MAX_WAIT_S + GRACE_S)


def _once(client: Client, made: Scene) -> None:
    """Nothing ran twice that may not, also of calls that nobody was told of."""
    counts = made.witness.executions
    twice = [n for n, ran in counts.items() if ran > 1 and made.witness.functions[n] == "once"]
    assert not twice, [client.call(num) for num in twice]


def _judge(made: Scene, num: int, call: Call) -> None:
    name, number = made.load.accepted[num]
    ran = made.witness.executions[num]
    assert call["status"] in ENDED, call
    assert call["funcName"] == name, call
    assert call["params"]["n"] == number, call
    if call["status"] == "DONE":
        assert call["result"] == f'{{"n":{number},"revision":{call["revision"]}}}', call
        assert ran >= 1, call
    elif call["status"] == "LOST" and name == "again":
        code = call["reason"]["code"] if call["reason"] else ""
        assert code == "interrupted" or len(call["attempts"]) == DEATHS, call
    elif call["status"] == "FAILED":
        # It does nothing that could fail, but for finding the witness.
        code = call["reason"]["code"] if call["reason"] else ""
        is_cut_off = made.far is not None and call["node"] == made.far.node
        assert code in ("no_sandbox", "no_space") or (code == "raised" and is_cut_off), call
    told = made.load.answered.get(num)
    if told is not None:
        same = ("status", "result", "reason", "finishedAt")
        assert _picked(told[0], same) == _picked(call, same), (told, call)


def _picked(call: Call, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in call.items() if name in names}


def _in_window(made: Scene, answered: float) -> bool:
    """Return whether an api and a worker died together right after an answer."""
    apis = [at for what, at in made.kills if what == "api"]
    workers = [at for what, at in made.kills if what == "worker"]
    return any(
        abs(api - worker) < TOGETHER_S and -1 < min(api, worker) - answered < WINDOW_S
        for api, worker in itertools.product(apis, workers)
    )


def _numbers(made: Scene, records: dict[int, Call], vanished: list[int]) -> dict[str, Any]:
    load = made.load
    ended = Counter(f"{call['funcName']} {call['status']}" for call in records.values())
    lost: Counter[str] = Counter()
    for call in records.values():
        if call["status"] == "LOST" and call["reason"]:
            lost[f"{call['funcName']} {call['reason']['code']}"] += 1
    return {
        "calls": len(records),
        "executions": made.witness.executions.total(),
        "answered 200": len(load.answered),
        "asked again by key": load.asked_again,
        "refused": dict(load.refused),
        "faults": dict(sorted(made.faults.items())),
        "dispatched again": sum(max(0, len(call["attempts"]) - 1) for call in records.values()),
        "ended": dict(sorted(ended.items())),
        "LOST by policy": dict(sorted(lost.items())),
        "answered, record lost with api and worker": len(vanished),
    }


def left_behind(data: Path) -> list[Path]:
    """Return what the nodes of an installation that has ended keep, and should not.

    Packages, and bundles with the marks that they are whole, are named by content.
    """
    known = {"bundles": 32, "whole": 32, "packages": 64, "tools": 16}
    # What all containers of a node are shown.
    shared = {"docker", "id", "lock"}
    left = []
    for node in (data / "nodes").iterdir():
        left += [one for one in node.iterdir() if one.name not in {*known, *shared}]
        for place, digits in known.items():
            named = re.compile(rf"[0-9a-f]{{{digits}}}")
            left += [one for one in node.glob(f"{place}/*") if not named.fullmatch(one.name)]
    return left
