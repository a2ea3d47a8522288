"""Why a call was cold or warm, why that node, how long each stage took, which limit it met.

The record goes in, plain words come out. Older servers write less into a record; what is not
there is not guessed.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cli.bars import bar
from cli.reasons import advice
from cli.words import about, between, seconds_at, size, span

#: What is known of stages, in the order in which they happen.
STAGES: Final = {
    "store": "written down first",
    "queued": "waited for a place",
    "earlier": "earlier attempts",
    "pull": "image pulled",
    "fetch": "package fetched",
    "install": "dependencies installed",
    "turn": "waited for its turn to be made",
    "sandbox": "sandbox made",
    "load": "code loaded",
    "wait": "waited in the sandbox's line",
    "ready": "sent, made ready, handed over",
    "run": "ran",
    "rest": "on the way, and the rest",
}
WAYS: Final = {
    "idle": "Warm: a sandbox of {function} revision {revision} stood idle and took it.",
    "ahead": "Warm: it was handed ahead to a sandbox that was still at another call, and began "
    "right after that one, or beside it if it is a server's.",
    "cold": "Cold: no sandbox of {function} revision {revision} was free, so one was made.",
}
_OF_START: Final = {"warm": "Warm: a sandbox of {function} revision {revision} was ready."}
_BAR_WIDTH: Final = 24
_REST_S: Final = 0.001


def explain(call: Mapping[str, Any], now: float, *, width: int = 80, bars: bool = True) -> str:
    """Return the explanation of a call as text of at most ``width`` columns.

    ``now`` is the time in seconds of the epoch, for what is still under way; ``bars`` draws
    the stages as a chart.
    """
    paragraphs = [_outcome(call, now), _start(call), _node(call)]
    parts = ["\n".join(_wrapped(text, width) for text in paragraphs if text)]
    if stages := stages_of(call):
        parts.append(_chart(stages, width, bars=bars))
    parts.append("\n".join(_wrapped(text, width) for text in _limits(call)))
    if len(call.get("attempts") or ()) > 1:
        parts.append(_attempts(call, width))
    return "\n\n".join(part for part in parts if part)


def _outcome(call: Mapping[str, Any], now: float) -> str:
    status, number = call["status"], call["callNum"]
    name = f"Call {number} of {call['funcName']} (revision {call.get('revision', '?')})"
    since = now - (seconds_at(call.get("acceptedAt")) or now)
    if status == "PENDING":
        return f"{name} waits: accepted {about(max(0.0, since))} ago, not begun yet."
    if status == "RUNNING":
        return f"{name} runs on {call.get('node') or 'a node'}, since {about(since)}."
    took = between(call.get("acceptedAt"), call.get("finishedAt"))
    return f"{name} ended {status} after {span(took)} in all."


def _start(call: Mapping[str, Any]) -> str:
    way = (_last(call).get("way")) or ""
    start = call.get("start")
    text = WAYS.get(way) or _OF_START.get(start or "") or (WAYS["cold"] if start else "")
    if text:
        return text.format(function=call["funcName"], revision=call.get("revision", "?"))
    if call.get("finishedAt"):
        return "It never began, so it was neither cold nor warm."
    return ""


def _node(call: Mapping[str, Any]) -> str:
    attempt = _last(call)
    node = attempt.get("node") or call.get("node")
    why = str(attempt.get("why") or "").strip().rstrip(".")
    if not node:
        return f"Why: {why}." if why else ""
    if why:
        return f"Why {node}, and why so: {why}."
    return f"It went to {node}; the record does not say why that one."


def stages_of(call: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the stages in their order, in seconds; from the times if no stages are told."""
    told = {k: v / 1000 for k, v in (call.get("stages") or {}).items() if v is not None}
    found = told or _from_times(call)
    total = between(call.get("acceptedAt"), call.get("finishedAt"))
    if found and total is not None:
        # Of the times only milliseconds are known: less than that is no rest.
        rest = total - sum(found.values())
        found |= {"rest": rest} if rest >= _REST_S else {}
    order = list(STAGES)
    return sorted(
        found.items(), key=lambda one: order.index(one[0]) if one[0] in order else len(order)
    )


def _from_times(call: Mapping[str, Any]) -> dict[str, float]:
    found = {
        "queued": between(call.get("acceptedAt"), call.get("dispatchedAt")),
        "ready": between(call.get("dispatchedAt"), call.get("startedAt")),
        "run": call.get("duration"),
    }
    return {name: took for name, took in found.items() if took is not None}


def _chart(stages: list[tuple[str, float]], width: int, *, bars: bool) -> str:
    longest = max(took for _, took in stages)
    lines = []
    for name, took in stages:
        share = took / longest if longest else 0.0
        drawn = bar(share, min(_BAR_WIDTH, max(4, width - 50))) if bars else ""
        lines.append(f"  {STAGES.get(name, name):<27} {span(took):>9}  {drawn}".rstrip())
    return "How long each stage took:\n" + "\n".join(lines)


def _limits(call: Mapping[str, Any]) -> list[str]:
    lines = []
    if reason := call.get("reason"):
        lines.append(f"Reason: {reason['message'].rstrip('.')} [{reason['code']}].")
        lines.append(advice(reason["code"], call["funcName"]))
    elif call["status"] == "DONE":
        lines.append("It met no limit.")
    if used := _used(call):
        lines.append(f"Of its limits it used: {'; '.join(used)}.")
    if omitted := call.get("logBytesOmitted"):
        lines.append(f"Its logs met their limit: {size(omitted)} of the middle are left out.")
    return lines


def _used(call: Mapping[str, Any]) -> list[str]:
    """Return how much of each limit a call used, as far as its record tells."""
    ran, waited = call.get("duration"), between(call.get("acceptedAt"), call.get("startedAt"))
    peak, used = call.get("peakMemory"), []
    if ran is not None:
        used.append(f"timeout {span(ran)}{_of(call.get('timeout'), ' s')}")
    if waited is not None:
        used.append(f"maxWait {span(waited)}{_of(call.get('maxWait'), ' s')}")
    if peak:
        used.append(f"memory {size(peak)}{_of(call.get('memory'), ' MiB')}")
    return used


def _of(limit: float | None, unit: str) -> str:
    return "" if limit is None else f" of {limit:g}{unit}"


def _attempts(call: Mapping[str, Any], width: int) -> str:
    lines = [f"It took {len(call['attempts'])} attempts:"]
    for one in call["attempts"]:
        reason = one.get("reason")
        why = f": {reason['message']} [{reason['code']}]" if reason else ""
        line = f"{one['attempt']}. on {one.get('node') or '-'}, {one.get('status') or '-'}{why}"
        lines.append(textwrap.fill(line, width, initial_indent="  ", subsequent_indent="     "))
    return "\n".join(lines)


def _last(call: Mapping[str, Any]) -> Mapping[str, Any]:
    attempts: Sequence[Mapping[str, Any]] = call.get("attempts") or ({},)
    return attempts[-1]


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
