"""The session that the project began with, line by line, by curl itself, from ``api/``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import eventually
from tests.e2e.harness import ROOT, up

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")

REGISTER_RUNTIME = r"""
  curl --header "Content-Type: application/json" \
      -X POST \
      --data '{"image": "pythonruntime","path": "/ws","dependencies": "pip3 install -r requirements.txt","run":"python3 test.py"}' \
      localhost:3000/registerRuntime
"""  # noqa: E501
REGISTER_FUNCTION = r"""
  curl -X POST \
      -F module=@../runtimes/python/dice/python.tar.gz \
      localhost:3000/registerFunction/pythonruntime/dice
"""
INVOKE = r"""
  curl --header "Content-Type: application/json" \
      -X POST --data '{"funcName":"dice", "params": {"roll":"4d6"}}' \
      localhost:3000/invokeFunction
"""


class Shell:
    """Runs lines in a shell in ``api/``, with the port of this test."""

    def __init__(self, url: str) -> None:
        self._port = url.rpartition(":")[2]

    def __call__(self, line: str, *, options: str = "") -> str:
        line = line.replace("localhost:3000", f"localhost:{self._port}")
        line = line.replace("curl ", f"curl --silent --show-error --noproxy '*' {options} ", 1)
        ran = subprocess.run(
            ["bash", "-c", line], cwd=ROOT / "api", capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def status(self, line: str) -> tuple[int, Any, str]:
        """Return status, JSON and headers of an answer."""
        head, _, body = self(line, options="--include").replace("\r", "").rpartition("\n\n")
        return int(head.rpartition("HTTP/1.1 ")[2].split()[0]), json.loads(body), head


def test_the_session(tmp_path: Path) -> None:
    with up(tmp_path / "data") as hive:
        shell = Shell(hive.url)
        status, runtime, _ = shell.status(REGISTER_RUNTIME)
        assert (status, runtime["name"], runtime["revision"]) == (201, "pythonruntime", 1)
        status, function, _ = shell.status(REGISTER_FUNCTION)
        assert (status, function["functionName"], function["revision"]) == (201, "dice", 1)
        assert function["package"]["originalname"] == "python.tar.gz"
        status, call, head = shell.status(INVOKE)
        assert (status, call["callNum"], call["status"], call["result"]) == (
            202,
            1,
            "PENDING",
            "",
        )
        assert "Location: /call/1" in head
        assert list(call)[:5] == ["funcName", "params", "callNum", "status", "result"]
        assert shell("curl localhost:3000/runtimes") == '["pythonruntime"]'
        assert shell("curl localhost:3000/functions") == '["dice"]'
        one = eventually(lambda: _done(shell("curl localhost:3000/call/1")))
        assert re.fullmatch(r"\[[1-6],[1-6],[1-6],[1-6]\]", one["result"])
        assert one["params"] == {"roll": "4d6"}
        calls = shell("curl localhost:3000/calls")
        assert calls.startswith('{"c1":{"funcName":"dice","params":{"roll":"4d6"},"callNum":1,')
        assert json.loads(calls)["c1"] == one
        assert shell.status(REGISTER_RUNTIME)[0] == 200
        assert shell.status(REGISTER_FUNCTION)[0] == 200
        assert hive.end() == 0


def _done(text: str) -> Any:
    call = json.loads(text)
    return call if call["status"] == "DONE" else None


def test_the_readme_shows_these_lines() -> None:
    readme = _squeezed((ROOT / "README.md").read_text())
    for line in (REGISTER_RUNTIME, REGISTER_FUNCTION, INVOKE):
        assert _squeezed(line).strip() in readme


def _squeezed(text: str) -> str:
    return " ".join(text.replace("\\\n", " ").split())
