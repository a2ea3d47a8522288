"""The figures of a simulation as bars, side by side; alone here knows matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

from benchmarks.simulated_figures import Figures

_PANELS: Final = (
    ("cold", "cold starts (part of calls)"),
    ("delay_p50_s", "wait until it runs, p50 (s)"),
    ("delay_p99_s", "wait until it runs, p99 (s)"),
    ("imbalance", "imbalance of nodes (std / mean)"),
)


def draw(found: Sequence[Figures], file: Path) -> None:
    """Draw a panel for each figure, a bar for each policy."""
    names = [f"{one.workers}: {one.placement}\n{one.keep_alive}" for one in found]
    figure, axes = plt.subplots(1, len(_PANELS), figsize=(16, 4.6), layout="constrained")
    for axis, (field, title) in zip(axes, _PANELS, strict=True):
        values = [float(getattr(one, field)) for one in found]
        axis.barh(names, values, color="#4477aa")
        axis.invert_yaxis()
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=8)
    figure.savefig(file, dpi=90)
    plt.close(figure)
