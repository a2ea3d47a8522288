"""Scripts that misbehave, all at once on one node: each gets its status, none hurts another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skep import Call, Client
from tests.e2e.harness import RUNTIME, register_dice, roll, up
from tests.packing import tar_gz

MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """A script and how its call must end."""

    script: str
    status: str
    code: str | None = None
    result: str | None = None
    says: str = ""
    options: tuple[tuple[str, Any], ...] = ()


CASES = {
    "fine": Case("print('ok')", "DONE", result="ok"),
    "silent": Case("", "DONE", result=""),
    "raises": Case(
        "raise ValueError('no dice')", "FAILED", "raised", says="ValueError: no dice"
    ),
    "exits": Case("import sys; print('part'); sys.exit(3)", "FAILED", "exit_code", says="3"),
    "quits": Case("import os; os._exit(7)", "FAILED", "exit_code", says="7"),
    "kills-itself": Case(
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "FAILED",
        "signal",
        says="KILL",
    ),
    "stderr": Case(
        "import sys; sys.stderr.write('e' * (10 << 20)); print('done')", "DONE", result="done"
    ),
    "stdout": Case(
        "print('o' * (10 << 20)); open('end', 'w').close()", "FAILED", "result_too_large"
    ),
    "closes-stdout": Case("import os; os.close(1); os.close(2)", "DONE", result=""),
    "forks": Case(
        """
import os, sys, time
for _ in range(5):
    if os.fork() == 0:
        time.sleep(600)
print("parent")
""",
        "DONE",
        result="parent",
    ),
    "loops": Case("while True: pass", "TIMEOUT", "timeout", options=(("timeout", 1),)),
    "ignores-term": Case(
        """
import signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print("still here", flush=True)
while True:
    time.sleep(1)
""",
        "TIMEOUT",
        "timeout",
        options=(("timeout", 1),),
    ),
    "stops-itself": Case(
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "TIMEOUT",
        "timeout",
        options=(("timeout", 1),),
    ),
    "no-such-module": Case("import nothing_of_the_kind", "FAILED", "raised", says="nothing_of"),
    "no-python": Case("def f(:", "FAILED", "raised", says="SyntaxError"),
    "not-text": Case(
        r"import sys; sys.stdout.buffer.write(b'\xff\x00')", "DONE", result="/wA="
    ),
    "large-params": Case(
        "import json, os, sys; p = json.load(sys.stdin);"
        "f = json.load(open(os.environ['SKEP_PARAMS_FILE']));"
        "print(len(p['x']), p == f, 'SKEP_PARAMS' in os.environ)",
        "DONE",
        result=f"{2 * MIB} True False",
    ),
    "small-params": Case(
        "import json, os, sys;"
        "print(json.load(sys.stdin) == json.loads(os.environ['SKEP_PARAMS']),"
        " os.environ['SKEP_FUNCTION'], os.environ['SKEP_REVISION'], os.environ['COLOUR'])",
        "DONE",
        result="True small-params 1 blue",
    ),
}


def package(script: str) -> bytes:
    """Pack one script as the runtime's test.py."""
    return tar_gz({"test.py": script, "requirements.txt": "# none\n"})


def params_of(name: str) -> dict[str, Any]:
    return {"x": "y" * 2 * MIB} if name == "large-params" else {"n": 1}


def check(name: str, case: Case, call: Call) -> None:
    shown = {k: v for k, v in call.items() if k not in ("params", "result")}
    assert call["status"] == case.status, (name, shown)
    if case.code is None:
        assert call["reason"] is None, (name, shown)
    else:
        assert call["reason"] is not None, (name, shown)
        assert call["reason"]["code"] == case.code, (name, shown)
        assert case.says in call["reason"]["message"], (name, shown)
    if case.result is not None:
        assert call["result"] == case.result, (name, shown)


def test_every_script_gets_its_status_and_hurts_no_other(tmp_path: Path) -> None:
    with up(tmp_path / "data", "--slots", "6") as hive, hive.client() as client:
        register_dice(client)
        client.register_runtime({**RUNTIME, "name": "bare", "dependencies": ""})
        for name, case in CASES.items():
            client.register_function(
                "bare",
                name,
                package(case.script),
                env={"COLOUR": "blue"},
                **dict(case.options),
            )
        with ThreadPoolExecutor(len(CASES)) as pool:
            both = [
                (name, pool.submit(invoke, hive.url, name)) for _ in range(2) for name in CASES
            ]
            neighbours = [pool.submit(roll, client) for _ in range(10)]
            for name, call in both:
                check(name, CASES[name], call.result())
            assert [n.result()["status"] for n in neighbours] == ["DONE"] * 10
        logs_are_kept(client)
        assert client.workers()[0]["state"] == "up"
        assert hive.end() == 0


def invoke(url: str, name: str) -> Call:
    with Client(url) as client:
        return client.submit_call(name, params_of(name), wait=50)


def logs_are_kept(client: Client) -> None:
    """What was printed before the end is there, whatever the end was."""
    by_name = {call["funcName"]: call for call in client.calls()}
    assert by_name["stderr"]["logBytesOmitted"] == 10 * MIB - 128 * 1024
    assert "still here" in client.logs(by_name["ignores-term"]["callNum"])["stdout"]
    assert "Traceback" in client.logs(by_name["raises"]["callNum"])["stderr"]
    assert by_name["not-text"]["resultEncoding"] == "base64"
