"""Each misdeed in each mode, from outside: by HTTP, through api, worker and sandbox.

The table is that of ``tests/miniworker/test_misbehaviour.py``, which asks a miniworker alone;
here nothing may be lost or changed on the way to the record, and neither the next call of the
function nor one of another may notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.harness import up
from tests.e2e.test_handlers import Api
from tests.miniworker.handlers import MODES, settings, source
from tests.miniworker.test_misbehaviour import MISDEEDS

AT_ONCE = 3


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A hive with room for some misdeeds at once and for one call beside them."""
    with up(tmp_path / "data", "--slots", str(AT_ONCE + 1)) as hive:
        api = Api(hive.url)
        try:
            api.runtime("py", run="python3 hello.py")
            files = {"hello.py": "def main(): return 1"}
            api.function("neighbour", "py", files, entry="hello.main")
            yield api
        finally:
            api.close()


def misbehave(api: Api, name: str, mode: str) -> str:
    """Try one misdeed; return what is not as it must be, or nothing."""
    misdeed = MISDEEDS[name]
    function = f"{mode}-{list(MISDEEDS).index(name)}"
    timeout = max(1, -(-misdeed.timeout_ms // 1000))
    options = {**settings(mode), **misdeed.settings, "timeout": timeout}
    files = {"hello.py": source(mode, misdeed.code), "beside.txt": "as it was"}
    api.function(function, "py", files, **{key: str(value) for key, value in options.items()})
    record = api.call(function)
    reason = record["reason"] or {"code": None, "message": ""}
    fine, neighbour = api.call(function, {"fine": True}), api.call("neighbour")
    wrong = {
        "end": (record["status"], reason["code"]) != misdeed.end(mode),
        "message": misdeed.says.get(mode, "") not in reason["message"],
        "next call": (fine["status"], fine["result"].strip('"')) != ("DONE", "fine"),
        "neighbour": (neighbour["status"], neighbour["result"]) != ("DONE", "1"),
    }
    found = [what for what, is_wrong in wrong.items() if is_wrong]
    return f"{name}: {found}: {record}, {fine}, {neighbour}" if found else ""


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", MODES)
def test_its_call_ends_as_it_must_and_no_other_is_hurt(api: Api, mode: str) -> None:
    names = [name for name, misdeed in MISDEEDS.items() if mode in misdeed.modes]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [wrong for wrong in pool.map(lambda n: misbehave(api, n, mode), names) if wrong]
    assert not found, "\n".join(found)
