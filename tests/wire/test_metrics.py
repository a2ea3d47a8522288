"""Counts and the page that is made of them, against the client library's own parser."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from wire.counting import Buckets, Drops, Metric, Reading, dropped
from wire.errors import BadRequest
from wire.metrics import Exposition
from wire.scrape import Place, scraped

ROOT = Path(__file__).parents[2]
CALLS = Metric("skep_calls_total", "counter", "Calls.", ("function",))
DEPTH = Metric("skep_depth", "gauge", "Depth.")
TOOK = Metric("skep_took_seconds", "histogram", "Took.", ("stage",))
FINITE = st.floats(0, 1e6, allow_nan=False)


def page(*readings: Reading, accept: str = "") -> str:
    exposition = Exposition("api", "a1", (CALLS, DEPTH, TOOK), lambda: readings)
    return asyncio.run(exposition.page(accept))[0].decode()


@given(st.lists(FINITE), st.lists(FINITE, unique=True).map(sorted))
def test_buckets_count_what_is_at_most_their_bound(
    values: list[float], bounds: list[float]
) -> None:
    buckets = Buckets(bounds)
    for value in values:
        buckets.observe(value)
    for bound, count in buckets.cumulative():
        assert count == sum(value <= bound for value in values)
    assert buckets.cumulative()[-1] == (float("inf"), len(values))
    assert buckets.total == pytest.approx(sum(values))


@given(st.text(max_size=20), FINITE, st.lists(FINITE, max_size=5))
def test_the_page_says_what_was_read(name: str, depth: float, values: list[float]) -> None:
    buckets = Buckets()
    for value in values:
        buckets.observe(value)
    text = page((CALLS, (name,), 3), (DEPTH, (), depth), (TOOK, ("run",), buckets))
    samples = {
        (sample.name, sample.labels.get("function") or sample.labels.get("le")): sample.value
        for family in parse(text)
        for sample in family.samples
    }
    assert samples["skep_calls_total", name or None] == 3
    assert samples["skep_depth", None] == depth
    assert samples["skep_took_seconds_count", None] == len(values)
    assert samples["skep_took_seconds_bucket", "+Inf"] == len(values)


def test_a_metric_without_a_reading_says_what_it_is() -> None:
    found = {family.name: family for family in parse(page())}
    assert found["skep_calls"].documentation == "Calls."
    assert found["skep_took_seconds"].type == "histogram"
    (build,) = found["skep_build_info"].samples
    assert (build.labels["process"], build.labels["node"]) == ("api", "a1")
    assert {"process_cpu_seconds", "python_gc_collections", "python_info"} <= found.keys()


def test_openmetrics_for_who_asks_for_it() -> None:
    text = page((CALLS, ("dice",), 3), accept="application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    families = parse_openmetrics(text)  # type: ignore[no-untyped-call]
    assert "skep_calls" in {family.name for family in families}


def test_what_links_drop_is_told_by_cause() -> None:
    text = page(*dropped("workers", Drops(frames=1, garbage=2, unroutable=3)))
    (family,) = [f for f in parse(text) if f.name == "skep_dropped_messages"]
    told = {sample.labels["cause"]: sample.value for sample in family.samples}
    assert told == {"frames": 1, "garbage": 2, "unroutable": 3}


@pytest.mark.parametrize("wrong", [(TOOK, ("run",), 1.0), (DEPTH, (), Buckets())])
def test_a_number_of_the_wrong_kind_is_an_error_and_not_a_lie(wrong: Reading) -> None:
    with pytest.raises(TypeError):
        page(wrong)


async def test_two_expositions_share_nothing() -> None:
    def read() -> Iterator[Reading]:
        yield DEPTH, (), 1

    pages = [(await Exposition("api", node, (DEPTH,), read).page())[0] for node in "ab"]
    assert b'node="a"' in pages[0]
    assert b'node="a"' not in pages[1]


def test_nothing_is_in_the_librarys_global_registry() -> None:
    code = (
        "import api.metrics, worker.metrics, dbnode.metrics, cli.metrics, wire.exposing\n"
        "import prometheus_client as p\n"
        "print(sorted(m.name for m in p.REGISTRY.collect() if m.name.startswith('skep')))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
        timeout=30,
    )
    assert done.stdout == "[]\n"


async def nothing(_: str) -> tuple[bytes, str]:
    return b"", "text/plain"


async def test_a_taken_port_is_named_with_what_to_do() -> None:
    async with scraped(Place(port=0), nothing) as url:
        port = int(url.removesuffix("/metrics").rpartition(":")[2])
        with pytest.raises(BadRequest, match=str(port)) as refused:
            async with scraped(Place(port=port), nothing):
                pass
    assert "--metrics-port" in refused.value.hint


async def test_without_a_port_nothing_is_served() -> None:
    async with scraped(Place(), nothing) as url:
        assert url == ""


async def test_a_server_comes_with_the_first_who_asks_and_goes_with_the_block() -> None:
    async def told(accept: str) -> tuple[bytes, str]:
        return f"told {accept}".encode(), "text/plain"

    async with scraped(Place(host="localhost", port=0), told) as url:
        where = urlsplit(url)
        # Whoever comes first waits for it, however many they are.
        asked = [asyncio.to_thread(_get, where.port, "/metrics") for _ in range(3)]
        assert await asyncio.gather(*asked) == [(200, "told a/b")] * 3
        status, text = await asyncio.to_thread(_get, where.port, "/healthz")
        assert (status, json.loads(text)["status"]) == (200, "ok")
        strange = await asyncio.to_thread(_get, where.port, "/metrics", host="evil.invalid")
        assert strange[0] == 403
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(_get, where.port, "/metrics")


def _get(port: int | None, path: str, host: str = "localhost") -> tuple[int, str]:
    connection = http.client.HTTPConnection("localhost", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Accept": "a/b", "Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_process_that_nobody_scrapes_has_no_web_server() -> None:
    code = (
        "import sys, dbnode.main, worker.main, cli.running\n"
        "print([name for name in ('aiohttp', 'prometheus_client') if name in sys.modules])"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30,
                          env={"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.stdout == "[]\n", done.stderr
