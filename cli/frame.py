"""What ``skep top`` shows: a snapshot in, lines of styled pieces for a screen out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cli.bars import bar
from cli.tables import Cell, Column, Line, Row, lines, status
from cli.words import about, ago, breadth, clip, percent, seconds_at, span

Record = Mapping[str, Any]
#: From this width on, calls stand beside workers and queues.
_WIDE: Final = 150
_WORKERS: Final = (
    Column("WORKER"), Column("STATE"), Column("RUNNING", right=True), Column("LOAD", 1),
    Column("FREE", 2, right=True),
    Column("WARM", right=True), Column("GENERIC", 2, right=True), Column("HITS", 2, right=True),
    Column("SEEN", 2), Column("SANDBOX", 3), Column("WITHHELD", 1, flexible=True),
)  # fmt: skip
_QUEUES: Final = (
    Column("FUNCTION", flexible=True), Column("REVISION", 1, right=True),
    Column("QUEUED", right=True), Column("RUNNING", right=True),
)  # fmt: skip
_RUNNING: Final = (
    Column("CALL", right=True), Column("FUNCTION", flexible=True), Column("SINCE", right=True),
    Column("NODE", 1), Column("PARAMS", 2, flexible=True),
)  # fmt: skip
_ENDED: Final = (
    Column("CALL", right=True), Column("FUNCTION", flexible=True), Column("STATUS"),
    Column("RAN", 1, right=True), Column("START", 2), Column("ENDED"),
    Column("RESULT", 3, flexible=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What was found at one moment; with ``trouble``, what was found before it began."""

    url: str
    #: When it was found, in seconds of the epoch.
    at: float
    workers: Sequence[Record] = ()
    queues: Sequence[Record] = ()
    running: Sequence[Record] = ()
    ended: Sequence[Record] = ()
    rate: float | None = None
    trouble: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        names = ("url", "workers", "queues", "running", "ended", "rate")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Panel:
    """A titled table, and what stands there when it has no rows."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    empty: str
    #: Which share of the room that is left it wants.
    weight: int = field(default=1)

    def draw(self, width: int, height: int) -> list[Line]:
        """Return at most ``height`` lines; the last tells what is missing."""
        title: Line = [(f"{self.title} ({len(self.rows)})", "bold underline")]
        if not self.rows:
            return [title, [(self.empty, "dim")]][:height]
        drawn = [title, *lines(self.columns, self.rows, width)]
        if len(drawn) <= height:
            return drawn
        hidden = len(drawn) - max(1, height - 1)
        return [*drawn[: max(1, height - 1)], [(f"… {hidden} more", "dim")]]

    @property
    def height(self) -> int:
        """Return how many lines it would like."""
        return 2 + len(self.rows)


def frame(snapshot: Snapshot, now: float, width: int, height: int | None = None) -> list[Line]:
    """Return the lines of a screen; as many as it takes if no height is given."""
    panels = _panels(snapshot, now)
    head = _head(snapshot, now, width)
    room = None if height is None else height - len(head) - 2
    if width >= _WIDE:
        left, right = panels[:2], panels[2:]
        half = min(width // 2 - 2, 72)
        body = _beside(_stack(left, half, room), _stack(right, half, room), half)
    else:
        body = _stack(panels, width, room)
    drawn = [*head, [], *body]
    if height is None:
        return drawn
    drawn = drawn[: height - 1]
    return [*drawn, *([[]] * (height - 1 - len(drawn))), [("q quits", "dim")]]


def _head(snapshot: Snapshot, now: float, width: int) -> list[Line]:
    first: Line = [("skep top  ", "bold"), (clip(snapshot.url, width - 10), "")]
    if snapshot.trouble:
        age = f"trying again; what follows is {about(max(0.0, now - snapshot.at))} old"
        text = f"AWAY, {age}: {snapshot.trouble}"
        return [first, [(clip(text, width), "bold red")]]
    there = [one for one in snapshot.workers if one["state"] != "gone"]
    running = sum(one["running"] for one in there)
    slots = sum(one["slots"] for one in there)
    queued = sum(one["queued"] for one in snapshot.queues)
    rate = "-" if snapshot.rate is None else f"{snapshot.rate:.1f}/s"
    facts = f"workers {len(there)}  running {running}/{slots}  queued {queued}  ended {rate}"
    return [first, [(clip(facts, width), "bold cyan")]]


def _panels(snapshot: Snapshot, now: float) -> list[Panel]:
    return [
        Panel("WORKERS", _WORKERS, [_worker(one, now) for one in snapshot.workers], "none"),
        Panel("QUEUES", _QUEUES, [_queue(one) for one in snapshot.queues], "nothing waits"),
        Panel("RUNNING", _RUNNING, [_call(one, now) for one in snapshot.running], "none", 2),
        Panel("ENDED", _ENDED, [_end(one, now) for one in snapshot.ended], "none yet", 3),
    ]


def _worker(one: Record, now: float) -> list[Cell]:
    share = one["running"] / one["slots"] if one["slots"] else 0.0
    warm, generic = one.get("warm") or {}, one.get("generic") or {}
    return [
        Cell(one["name"]),
        state_of(one),
        Cell(f"{one['running']}/{one['slots']}"),
        Cell(f"{bar(share, 8):<8}", style="cyan"),
        Cell(str(one.get("free", ""))),
        Cell(str(sum(warm.values()))),
        Cell(str(sum(generic.values()))),
        Cell(percent(one.get("hitRatio"))),
        Cell(ago(one["lastSeen"], now)),
        Cell(one["sandbox"]),
        Cell(one.get("withheld", ""), style="yellow"),
    ]


def state_of(worker: Record) -> Cell:
    """Return the cell of a worker's state; that it is silent says more than that it is up."""
    quiet = worker.get("silent") and worker["state"] == "up"
    return status("silent" if quiet else worker["state"])


def _queue(one: Record) -> list[Cell]:
    return [
        Cell(one["functionName"]),
        Cell(str(one["revision"])),
        Cell(str(one["queued"]), style="yellow" if one["queued"] else ""),
        Cell(str(one["running"])),
    ]


def _call(one: Record, now: float) -> list[Cell]:
    began = seconds_at(one["startedAt"] or one["dispatchedAt"] or one["acceptedAt"]) or now
    return [
        Cell(str(one["callNum"])),
        Cell(one["funcName"]),
        Cell(about(max(0.0, now - began)), style="cyan"),
        Cell(one["node"] or ""),
        Cell(clip(json.dumps(one["params"], ensure_ascii=False), 60)),
    ]


def _end(one: Record, now: float) -> list[Cell]:
    reason = one["reason"]
    text = f"[{reason['code']}] {reason['message']}" if reason else one["result"]
    return [
        Cell(str(one["callNum"])),
        Cell(one["funcName"]),
        status(one["status"]),
        Cell(span(one["duration"])),
        Cell(one["start"] or ""),
        Cell(ago(one["finishedAt"], now)),
        Cell(clip(text, 60)),
    ]


def _stack(panels: Sequence[Panel], width: int, room: int | None) -> list[Line]:
    drawn: list[Line] = []
    for panel, height in zip(panels, _heights(panels, room), strict=True):
        if height > 0:
            drawn += [*panel.draw(width, height), []]
    return drawn[:-1] if drawn else []


def _heights(panels: Sequence[Panel], room: int | None) -> list[int]:
    """Share the room: everybody gets three lines, then who wants more takes by weight."""
    wanted = [max(2, panel.height) for panel in panels]
    if room is None:
        return wanted
    left = room - (len(panels) - 1)
    given = [min(want, 3) for want in wanted]
    left -= sum(given)
    while left > 0 and (hungry := [i for i in range(len(panels)) if given[i] < wanted[i]]):
        for i in hungry:
            more = min(panels[i].weight, wanted[i] - given[i], left)
            given[i] += more
            left -= more
    return given


def _beside(left: list[Line], right: list[Line], width: int) -> list[Line]:
    drawn = []
    for i in range(max(len(left), len(right))):
        one = left[i] if i < len(left) else []
        pad = " " * (width + 4 - sum(breadth(text) for text, _ in one))
        drawn.append([*one, (pad, ""), *(right[i] if i < len(right) else [])])
    return drawn
