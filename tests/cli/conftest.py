"""One installation for the tests of a module, with functions in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.scripted import Script, serving
from tests.cli.session import ECHO, SLOW, skep, write
from tests.conftest import children
from tests.e2e.harness import DICE, Up, assert_gone, up


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A running ``skep up``; all of it is gone at the end."""
    before = children()
    data = tmp_path_factory.mktemp("session") / "data"
    with up(data, "--slots", "2") as running:
        yield running
    assert_gone(data, before)


@pytest.fixture(scope="module")
def functions(hive: Up, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Register dice, slow and echo."""
    base = tmp_path_factory.mktemp("functions")
    write(base / "slow", test_py=SLOW, requirements_txt="", skep_json='{"timeout": 60}')
    write(base / "echo", test_py=ECHO, requirements_txt="")
    assert skep(hive, "runtime", "register", "python").returncode == 0
    for name, path in (("dice", DICE), ("slow", base / "slow"), ("echo", base / "echo")):
        options = ("--runtime", "pythonruntime", "--no-prepare")
        done = skep(hive, "function", "register", name, str(path), *options)
        assert (done.returncode, done.stdout) == (0, f"{name}\n"), done.stderr


@pytest.fixture
def server() -> Iterator[Script]:
    """A server that answers by a script."""
    with serving() as script:
        yield script
