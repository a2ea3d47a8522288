"""The example that everybody runs first: its archive is its folder, its errors are clear."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import msgspec
import pytest

from wire.models import Runtime

HERE = Path(__file__).parents[2] / "runtimes" / "python"
DICE = HERE / "dice"


def roll(params: object) -> subprocess.CompletedProcess[str]:
    text = params if isinstance(params, str) else json.dumps(params)
    command = [sys.executable, str(DICE / "test.py")]
    return subprocess.run(
        command, check=False, input=text, capture_output=True, text=True, timeout=30
    )


def test_the_archive_is_the_folder(tmp_path: Path) -> None:
    copy = tmp_path / "dice"
    copy.mkdir()
    for path in DICE.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    subprocess.run([sys.executable, str(HERE / "pack.py"), str(copy)], check=True, timeout=30)
    packed = (copy / "python.tar.gz").read_bytes()
    assert packed == (DICE / "python.tar.gz").read_bytes(), "run: runtimes/python/pack.py dice"
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == ["requirements.txt", "test.py"]


def test_runtime_json_is_a_runtime() -> None:
    runtime = msgspec.json.decode((HERE / "runtime.json").read_bytes(), type=Runtime)
    assert (runtime.name, runtime.path, runtime.run) == (
        "pythonruntime",
        "/ws",
        "python3 test.py",
    )
    assert runtime.dependencies == "pip3 install -r requirements.txt"


@pytest.mark.parametrize(
    ("text", "dice", "sides"), [("4d6", 4, 6), ("1d1", 1, 1), ("1000d20", 1000, 20)]
)
def test_a_roll(text: str, dice: int, sides: int) -> None:
    done = roll({"roll": text})
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\[\d+(,\d+)*\]\n", done.stdout)
    numbers = json.loads(done.stdout)
    assert len(numbers) == dice
    assert all(1 <= number <= sides for number in numbers)


@pytest.mark.parametrize(
    "params",
    [
        {},
        [],
        "4d6",
        {"roll": 4},
        {"roll": ""},
        {"roll": "d6"},
        {"roll": "4d"},
        {"roll": "0d6"},
        {"roll": "4d0"},
        {"roll": "1001d6"},
        {"roll": "4d1000001"},
        {"roll": "-4d6"},
        {"roll": "4d6 "},
        {"roll": "٤d6"},
        {"roll": "4d6\n"},
    ],
)
def test_a_bad_roll_says_so(params: object) -> None:
    done = roll(params)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.search(r"ValueError|JSONDecodeError", done.stderr)
