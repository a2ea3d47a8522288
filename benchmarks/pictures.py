"""The plots of docs/performance.md: latency distributions, rates by clients, growth.

The only module that knows matplotlib, which it needs only when it draws.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import growth
from benchmarks.gate import Spread, values
from benchmarks.narrow import CURVE

FOLDER: Final = Path(__file__).parents[1] / "docs" / "pictures"
#: Okabe and Ito's colours, which all eyes tell apart.
COLOURS: Final = {
    "docker": "#0072b2",
    "process": "#d55e00",
    "pool": "#000000",
    "hello": "#009e73",
}
LABELS: Final = {
    "docker": "skep, docker",
    "process": "skep, process",
    "pool": "ProcessPoolExecutor(2)",
    "hello": "aiohttp + uvloop hello",
}


def draw(kind: str, results: dict[str, Any]) -> None:
    """Draw the pictures of one kind of results into docs/pictures."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
    except ImportError:
        print(f"{kind}: no pictures, there is no matplotlib: pip install '.[bench]'")
        return
    mpl.use("svg")
    # Text stays text and nothing names the moment: small files, and small differences.
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "skep", "axes.spines.top": False,
         "axes.spines.right": False, "font.size": 9}
    )  # fmt: skip
    FOLDER.mkdir(exist_ok=True)
    if kind == "bench":
        _latencies(results)
        _rates(results)
    elif kind == "growth":
        _growth(results)


def _latencies(results: dict[str, Any]) -> None:
    figure, panes = _panes(3, "latency, ms")
    hows = {"one_": "one client", "crowd_": "32 clients", "open_": "open loop, half the peak"}
    for pane, (how, title) in zip(panes, hows.items(), strict=True):
        pane.set_title(title)
        pane.set_xscale("log")
        for name, colour in COLOURS.items():
            shapes = [
                one[f"{name}.{how}"] for one in results["shapes"] if f"{name}.{how}" in one
            ]
            if shapes:
                middle = [statistics.median(at) for at in zip(*shapes, strict=True)]
                pane.plot(middle, results["shares"], color=colour, label=LABELS[name])
    panes[0].set_ylabel("share of calls answered by then")
    panes[0].legend(frameon=False, fontsize=7)
    _save(figure, "latency")


def _rates(results: dict[str, Any]) -> None:
    if not any(".rate_of_" in row for one in results["rounds"] for row in one):
        print("rates: the curve was not run, the picture is left as it is")
        return
    figure, (pane,) = _panes(1, "clients")
    pane.set_xscale("log", base=2)
    pane.set_ylabel("calls/s")
    for name, colour in COLOURS.items():
        found = {
            clients: Spread.of(measured)
            for clients in CURVE
            if (measured := values(results["rounds"], f"{name}.rate_of_{clients}"))
        }
        if found:
            middle = [one.median for one in found.values()]
            pane.plot(list(found), middle, color=colour, marker="o", label=LABELS[name])
            least = [one.least for one in found.values()]
            most = [one.most for one in found.values()]
            pane.fill_between(list(found), least, most, color=colour, alpha=0.15, linewidth=0)
    pane.set_yscale("log")
    pane.set_xticks(CURVE, [str(clients) for clients in CURVE])
    pane.legend(frameon=False, fontsize=7)
    _save(figure, "rates")


def _growth(results: dict[str, Any]) -> None:
    figure, (pane,) = _panes(1, "many over few: p50 (dot) and CPU of a call (ring)")
    ran = [axis for axis in growth.SIZES if growth.ratio(results["rounds"], axis, "p50_ms")]
    for at, axis in enumerate(ran):
        for what, colour, shift in (("p50_ms", "#0072b2", 0.1), ("cpu_ms", "#d55e00", -0.1)):
            found = growth.ratio(results["rounds"], axis, what)
            if found is not None:
                pane.plot([found.least, found.most], [at + shift] * 2, color=colour)
                face = colour if what == "p50_ms" else "white"
                pane.plot([found.median], [at + shift], "o", color=colour, markerfacecolor=face)
    pane.axvline(growth.ALLOWED, color="#999999", linestyle="--")
    pane.axvline(1.0, color="#cccccc")
    sizes = [growth.SIZES[axis] for axis in ran]
    labels = [
        f"{growth.NAMES[axis]}: {small:,} to {large:,}"
        for axis, (small, large) in zip(ran, sizes, strict=True)
    ]
    pane.set_yticks(range(len(ran)), labels)
    _save(figure, "growth")


def _panes(count: int, below: str) -> tuple[Any, Sequence[Any]]:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra

    figure, axes = plt.subplots(
        1, count, figsize=(8 if count > 1 else 6, 3), sharey=True, squeeze=False
    )
    for pane in axes[0]:
        pane.set_xlabel(below)
        pane.grid(visible=True, alpha=0.3)
    return figure, list(axes[0])


def _save(figure: Any, name: str) -> None:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra

    figure.savefig(FOLDER / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
