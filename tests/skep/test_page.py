"""docs/python.md is run from top to bottom against a real skep, and prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, environment, up

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL
)
MARK = "--- end of an example ---"


@pytest.mark.timeout(180)
def test_every_example_prints_what_the_page_says(tmp_path: Path) -> None:
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == PAGE.count("```python") > 10
    work = tmp_path / "work"
    work.mkdir()
    script = work / "page.py"
    # One program, as a reader would type it, whose output is told apart again.
    script.write_text("".join(f"{code}\nprint({MARK!r}, flush=True)\n" for code, _ in blocks))
    with up(tmp_path / "data") as hive:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "error", str(script)],
            cwd=work,
            env=environment() | {"SKEP_URL": hive.url},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    printed = done.stdout.split(f"{MARK}\n")
    for (code, said), output in zip(blocks, printed, strict=False):
        assert output == said, f"{code}\n{done.stderr}"
    assert (done.returncode, done.stderr) == (0, "")
