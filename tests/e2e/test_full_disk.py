"""The disk under all of ``skep up`` is full: store, packages, bundles, sandboxes and logs.

Who cannot be served is told why, what needs no disk goes on, and when there is room again
nothing is missing that was promised.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from skep import Client, SkepError
from tests.conftest import eventually
from tests.e2e.harness import RUNTIME, Up, skep, up
from tests.packing import tar_gz
from tests.small_disk import small_disk

HANDLER = "def main(n=0):\n    return n\n"
#: More than is left on the disk, also when it is packed.
CODE = {"work.py": HANDLER, "data": "".join(f"{n * n:x}" for n in range(100_000))}
#: What files of this disk grow by.
PAGE = 4096


def call_now(hive: Up, name: str, n: int) -> dict[str, Any]:
    """Wait for a call that need not be stored before it is answered."""
    body = json.dumps({"funcName": name, "params": {"n": n}, "maxWait": 20}).encode()
    head = {"Content-Type": "application/json"}
    with urlopen(Request(f"{hive.url}/invokeFunction?wait=30", body, head), timeout=40) as told:
        assert told.status == 200
        answer: dict[str, Any] = json.load(told)
    return answer


def register(client: Client, name: str, code: dict[str, str]) -> None:
    client.register_function("r", name, tar_gz(code), entry="work.main")


def test_a_full_disk_refuses_clearly_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 48) as disk:
        data = disk.folder / "data"
        with (
            up(data, "--workers", "1", "--slots", "2") as hive,
            Client(hive.url, retries=0, timeout=30) as client,
        ):
            client.register_runtime({**RUNTIME, "name": "r", "dependencies": ""})
            register(client, "warm", {"work.py": HANDLER})
            register(client, "cold", CODE)
            client.register_function("r", "absent", tar_gz(CODE), entry="work.absent")
            assert call_now(hive, "warm", 1)["result"] == "1"
            log = data / "logs" / "node1.log"
            with log.open("ab") as file:
                # Not a byte more has room, unless something is evicted.
                file.write(b"-" * (PAGE - log.stat().st_size % PAGE - 1) + b"\n")
            before = {child: hive.child(child) for child in ("dbnode", "api", "worker")}
            disk.fill()
            # What needs no disk goes on; its record waits for room.
            told = call_now(hive, "warm", 2)
            assert (told["status"], told["result"]) == ("DONE", "2")
            failed = call_now(hive, "cold", 3)
            assert failed["status"] == "FAILED"
            assert failed["reason"]["code"] == "no_sandbox"
            assert "No space left" in failed["reason"]["message"]
            with pytest.raises(SkepError) as refused:
                client.submit_call("warm", {"n": 4})
            assert refused.value.code == "store_unavailable"
            with pytest.raises(SkepError) as refused:
                register(client, "new", CODE)
            assert refused.value.code == "store_unavailable"
            disk.free()
            after = eventually(lambda: accepted(client, "cold", 5), 60, "a call taken again")
            assert client.wait_call(client.call(after), 30)["result"] == "5"
            # What was answered meanwhile is stored; what was refused never ran.
            stored = {call["callNum"]: call for call in client.iter_calls()}
            for one in (told, failed):
                kept = stored[one["callNum"]]
                assert [kept[k] for k in ("status", "result", "finishedAt")] == [
                    one[k] for k in ("status", "result", "finishedAt")
                ]
            ended = {call["params"]["n"]: call["status"] for call in stored.values()}
            assert ended == {1: "DONE", 2: "DONE", 3: "FAILED", 4: "CANCELLED", 5: "DONE"}
            # Nobody died of a log that could not be written, and it goes on.
            assert call_now(hive, "absent", 6)["reason"]["code"] == "entry_not_found"
            eventually(lambda: "entry_not_found" in log.read_text(), 30, "a line of log")
            assert {child: hive.child(child) for child in before} == before
            assert hive.end() == 0
        checked = skep("db", "check", "--data", str(data))
        assert checked.returncode == 0, checked.stdout + checked.stderr


def accepted(client: Client, name: str, n: int) -> int | None:
    try:
        return client.submit_call(name, {"n": n})["callNum"]
    except SkepError:
        return None
