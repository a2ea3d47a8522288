"""``skep invoke --map`` against a server by script: what it keeps, and how it is broken off."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.cli.scripted import Script, run
from tests.cli.test_commands import DONE
from tests.e2e.harness import environment

ODD = {**DONE, "result": '"é \\ud800 \u2028"'}
#: The answer to a batch of one call.
TOLD = (
    json.dumps({"index": 0, "status": 200, "callNum": ODD["callNum"], "call": ODD}).encode()
    + b"\n"
)


def test_a_map_goes_on_wherever_a_power_cut_left_it(server: Script, tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text('"a \u2028 b"\r\n"c"\n', encoding="utf-8")
    words = ("invoke", "f", "--map", str(file), "--out", str(out), "--concurrency", "1")
    server.type = "application/x-ndjson"
    server.answers += [(200, TOLD), (400, {})]
    first = run(*words, SKEP_URL=server.url)
    assert first.exit_code == 2, first.output
    assert json.loads(server.asked[0][3])["params"] == "a \u2028 b"
    part = tmp_path / "out.jsonl.part"
    whole = part.read_bytes()
    with part.open("ab") as cut:
        cut.write('{"index": 1, "result": "é'.encode()[:-1])
    server.answers += [(400, {})]
    assert run(*words, SKEP_URL=server.url).exit_code == 2
    assert part.read_bytes() == whole
    server.answers += [(200, TOLD)]
    last = run(*words, SKEP_URL=server.url)
    assert last.exit_code == 0, last.output
    told = [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]]
    assert [one["result"] for one in told] == ["é \ud800 \u2028"] * 2
    assert [path.name for path in tmp_path.iterdir() if path != file] == ["out.jsonl"]


def test_an_interruption_waits_for_no_call(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("1\n2\n")
    command = [sys.executable, "-P", "-m", "cli", "invoke", "f", "--map", str(file)]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        variables = {**environment(), "SKEP_URL": url}
        with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE) as mapping:
            try:
                connection, _ = silent.accept()
                with connection:
                    assert connection.recv(1)
                    mapping.send_signal(signal.SIGINT)
                    _, said = mapping.communicate(timeout=50)
            finally:
                mapping.kill()
    assert mapping.returncode == 130, said
    assert b"0 of 2 are done" in said
    assert b"Traceback" not in said
