"""The page of metrics as Prometheus wants it; the only module that knows prometheus_client.

A registry for each process, never the library's global one.
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

from wire.counting import BUILD, Buckets, Metric, Read

#: What is told of the process itself: its kind, its node, its release.
Build = tuple[str, str, str]
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Registry:
    """The metrics of one process, read anew at each scrape."""

    def __init__(self, build: Build, metrics: Sequence[Metric], read: Read) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Readings(build, metrics, read))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type, in the format that a scraper accepts."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Readings(Collector):
    """Turns readings into families; one without a reading still says what it is."""

    def __init__(self, build: Build, metrics: Sequence[Metric], read: Read) -> None:
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
