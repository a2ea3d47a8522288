"""What a process tells Prometheus; the only module that knows prometheus_client.

A registry for each process, never the library's global one. Nothing is updated while calls
run: a scrape reads the plain counts that the rooms keep (``wire.counting``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from wire.counting import BUILD, COMMON, Buckets, Metric, Read
from wire.process import release

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Exposition:
    """The page of one process: the metrics of its table, read anew at each scrape."""

    def __init__(self, process: str, node: str, metrics: Sequence[Metric], read: Read) -> None:
        self._build = (process, node, release())
        self._registry = CollectorRegistry()
        self._registry.register(_Readings(self._build, (*COMMON, *metrics), read))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def __repr__(self) -> str:
        return f"<Exposition of {' '.join(self._build)}>"

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """Return the page and its content type, in the format that a scraper accepts."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Readings(Collector):
    """Turns readings into families; one without a reading still says what it is."""

    def __init__(
        self, build: tuple[str, str, str], metrics: Sequence[Metric], read: Read
    ) -> None:
        self._build = build
        self._metrics = metrics
        self._read = read

    def collect(self) -> Iterable[Family]:
        """Read everything, now."""
        families = {metric: _family(metric) for metric in self._metrics}
        _add(families[BUILD], self._build, 1)
        for metric, labels, value in self._read():
            _add(families[metric], labels, value)
        return families.values()


def _family(metric: Metric) -> Family:
    name, text, labels = metric.name, metric.text, metric.labels
    if metric.kind == "counter":
        return CounterMetricFamily(name, text, labels=labels)
    if metric.kind == "gauge":
        return GaugeMetricFamily(name, text, labels=labels)
    return HistogramMetricFamily(name, text, labels=labels)


def _add(family: Family, labels: Sequence[str], value: float | Buckets) -> None:
    if isinstance(family, HistogramMetricFamily):
        if not isinstance(value, Buckets):
            raise TypeError(f"{family.name} is a histogram, and got {value!r}")
        counts = [(_bound(bound), float(n)) for bound, n in value.cumulative()]
        family.add_metric(labels, counts, value.total)
    elif isinstance(value, Buckets):
        raise TypeError(f"{family.name} is no histogram, and got one")
    else:
        family.add_metric(labels, value)


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(bound)
