"""docs/api.md is run line by line; older revisions run on a real worker, whatever happens."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import eventually
from tests.e2e.harness import DICE, ROOT, Up, up
from tests.packing import tar_gz

PAGE = ROOT / "docs" / "api.md"
#: Only a node that is gone can be forgotten (tests/api/test_tending.py), and this one is there.
FORGET = "curl -X DELETE localhost:3000/workers/node1"


def examples() -> list[str]:
    """Return the examples: what removes something comes last, functions before runtimes."""
    found = re.findall(r"^curl (?:.*\\\n)*.*", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    order = ("/call/", "/functions/", "/runtimes/")
    found = [line for line in found if line != FORGET]
    removing = [line for line in found if "-X DELETE" in line]
    removing.sort(key=lambda line: next(i for i, part in enumerate(order) if part in line))
    return [line for line in found if line not in removing] + removing


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_every_example_of_the_page_works(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(DICE, folder / "dice.tar.gz")
    with up(tmp_path / "data") as hive:
        for line in examples():
            here = line.replace("localhost:3000", hive.url.removeprefix("http://"))
            here = here.replace("curl ", "curl -sS --fail-with-body --noproxy '*' ", 1)
            ran = subprocess.run(
                ["bash", "-c", here], cwd=folder, capture_output=True, text=True, check=False
            )
            assert ran.returncode == 0, (line, ran.stdout, ran.stderr)
            if "invokeFunction?wait" in line:
                assert json.loads(ran.stdout)["status"] == "DONE", ran.stdout
        assert (folder / "dice-1.tar.gz").read_bytes() == DICE.read_bytes()
        # The page removes all but its images.
        assert httpx.get(f"{hive.url}/functions", trust_env=False).json() == ["run", "web"]


class Site:
    """One installation, asked without the client of the project."""

    def __init__(self, hive: Up) -> None:
        self.hive = hive

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """Return the JSON of an answer; while api and worker find each other, try again."""

        def attempt() -> httpx.Response | None:
            url = self.hive.url + path
            try:
                response = httpx.request(method, url, timeout=30, trust_env=False, **more)
            except httpx.TransportError:
                return None
            return None if response.status_code == 503 else response

        response: httpx.Response = eventually(attempt, 30, "the api answers")
        assert response.status_code < 300, response.text
        return response.json() if response.content else None

    def register(self, says: str) -> int:
        files = {"module": ("p.tar.gz", tar_gz({"test.py": f"print({says!r})"}))}
        path = "/registerFunction/plain/f"
        return int(self.ask("POST", path, files=files)["revision"])

    def result(self, revision: int) -> str:
        def attempt() -> str | None:
            body = {"funcName": "f", "revision": revision}
            call = self.ask("POST", "/invokeFunction?wait=20", json=body)
            return str(call["result"]) if call["status"] == "DONE" else None

        return str(eventually(attempt, 30, f"revision {revision} runs"))


def test_older_revisions_run_after_delete_and_restart(tmp_path: Path) -> None:
    with up(tmp_path / "data") as hive:
        site = Site(hive)
        runtime = {"image": "plain", "path": "/ws", "run": "python3 test.py"}
        site.ask("POST", "/registerRuntime", json=runtime)
        assert [site.register(says) for says in ("one", "two")] == [1, 2]
        assert (site.result(2), site.result(1)) == ("two", "one")
        site.ask("DELETE", "/functions/f")
        assert site.register("three") == 3
        assert [site.result(n) for n in (1, 2, 3)] == ["one", "two", "three"]
        os.kill(hive.child("api.main") or hive.child("api"), signal.SIGKILL)
        assert [site.result(n) for n in (3, 1, 2)] == ["three", "one", "two"]
