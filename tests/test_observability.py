"""docs/observability.md and the metrics of each process say the same; names are lint-free."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import api.metrics
import cli.metrics
import dbnode.metrics
import worker.metrics
from wire.counting import COMMON, Metric

PAGE = (Path(__file__).parents[1] / "docs" / "observability.md").read_text(encoding="utf-8")
TABLES: list[tuple[str, Sequence[Metric]]] = [
    ("Every process", COMMON),
    ("api", api.metrics.METRICS),
    ("worker", worker.metrics.METRICS),
    ("dbnode", dbnode.metrics.METRICS),
    ("skep up", cli.metrics.METRICS),
]
ALL = [metric for _, metrics in TABLES for metric in metrics]


def documented(title: str) -> dict[str, tuple[str, list[str]]]:
    section = re.search(rf"^### {title}$(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, title
    rows = [line.strip("|").split("|") for line in section[1].splitlines() if line[:3] == "| `"]
    found = {}
    for name, kind, labels, meaning in rows:
        assert meaning.strip(), name
        found[name.strip(" `")] = (kind.strip(), re.findall(r"`([a-z_]+)`", labels))
    return found


@pytest.mark.parametrize(("title", "metrics"), TABLES, ids=[title for title, _ in TABLES])
def test_every_metric_stands_on_the_page(title: str, metrics: Sequence[Metric]) -> None:
    coded = {metric.name: (metric.kind, list(metric.labels)) for metric in metrics}
    assert documented(title) == coded


def test_a_name_means_one_thing() -> None:
    names = [metric.name for metric in ALL]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("metric", ALL, ids=[metric.name for metric in ALL])
def test_names_are_as_prometheus_wants_them(metric: Metric) -> None:
    assert re.fullmatch(r"skep(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.text.endswith(".")
    base = metric.name.removesuffix("_total")
    # A unit stands at the end and is a base unit.
    assert not re.search(
        r"_(ms|milliseconds|minutes|kb|mb|percent|count|sum|bucket)(_|$)", base
    )
    for unit in ("_seconds", "_bytes"):
        assert unit not in base or base.endswith(unit)
    assert not {"le", "quantile", "job", "instance"} & set(metric.labels)


def test_the_table_is_linked_and_linted_here() -> None:
    """A new module of metrics has to be named above."""
    root = Path(__file__).parents[1]
    rooms = {path.parent.name for path in root.glob("*/metrics.py")} - {"wire"}
    assert rooms == {"api", "cli", "dbnode", "worker"}
