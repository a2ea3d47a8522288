"""The room over real sockets: a worker process, the fake sandbox, an api by script."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.conftest import soon
from tests.worker.scripted import KEY, ScriptedApi, items, node, package
from wire import messages as m
from wire.models import Status, Warmth


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def joined(api: ScriptedApi, data: bytes = package(), **settings: object) -> m.Hello:
    api.packages[sha(data)] = data
    return await api.welcome(*items(data, **settings))  # type: ignore[arg-type]


async def test_it_joins_grants_runs_and_repeats_nothing(tmp_path: Path) -> None:
    with node(tmp_path / "d") as (api, worker):
        hello = await joined(api)
        assert (hello.name, hello.slots, hello.sandbox) == ("n1", 2, "fake")
        assert (await worker.started())["node"] == hello.node_id
        credit = await api.get(m.Credit)
        assert (credit.seen, credit.free, credit.warm) == (0, 2, ())
        result, payload = await api.call(1, {"a": 1})
        assert result.outcome is not None
        assert result.outcome.status is Status.DONE
        assert result.outcome.start is Warmth.COLD
        assert result.number == 1
        assert json.loads(payload) == {"a": 1}
        await soon(lambda: m.Warm(KEY, 1) in api.of(m.Credit)[-1].warm)
        api.start(2, {"b": 2})
        warm, _ = await api.end(2)
        assert warm.outcome is not None
        assert warm.outcome.start is Warmth.WARM
        assert warm.number == 2
        api.say(m.Recorded(session=1, upto=2))
        assert await worker.stop() == 0
        await api.get(m.Bye)
        assert not list((tmp_path / "d").glob("run/*"))


async def test_the_process_sandbox_runs_a_script(tmp_path: Path) -> None:
    code = b"import sys,json\nprint(json.load(sys.stdin)['a']*2)"
    with node(tmp_path / "d", sandbox="auto") as (api, worker):
        data = package(code)
        await joined(api, data, dependencies="echo installed > mark")
        result, payload = await api.call(1, {"a": 21})
        assert result.outcome is not None
        assert result.outcome.status is Status.DONE, result.outcome.reason
        assert payload[: result.sizes[1]].strip() == b"42"
        api.say(m.Recorded(session=1, upto=1))
        assert await worker.stop() == 0
