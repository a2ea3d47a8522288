"""The agent is one file that any Python from 3.8 on can run with nothing installed."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "runtimes/python/agent.py", ROOT / "miniworker/launcher.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_plain_and_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").split(".")[0])
    assert imported <= sys.stdlib_module_names
