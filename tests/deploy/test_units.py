"""The systemd units: systemd takes them, the commands take what they and their files say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import click
import pytest

import api.main
import dbnode.main
import worker.main

ROOT: Final = Path(__file__).parents[2]
UNITS: Final = ROOT / "deploy" / "systemd"
PAGE: Final = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
COMMANDS: Final[dict[str, click.Command]] = {
    "api": api.main.main,
    "dbnode": dbnode.main.main,
    "worker": worker.main.main,
}
#: On systemd's scale, 10 is a program that may do everything.
EXPOSED: Final = {"api": "2.0", "dbnode": "2.0", "worker": "6.0"}


def unit(name: str) -> Path:
    found = list(UNITS.glob(f"skep-{name}*.service"))
    assert len(found) == 1
    return found[0]


def settings(name: str) -> dict[str, str]:
    """Return what the file of settings beside a unit says."""
    lines = (UNITS / f"{name}.env").read_text(encoding="utf-8").splitlines()
    said = [line.partition("=")[::2] for line in lines if line and line[0] != "#"]
    return dict(said)


def params(name: str, *, variables: bool = True) -> dict[str, object]:
    """Return what the command of a unit reads, with its variables."""
    (line,) = re.findall(r"^ExecStart=(.*)$", unit(name).read_text(), re.MULTILINE)
    program, *arguments = shlex.split(line.replace("%i", "node1"))
    assert program == f"/opt/skep/bin/skep-{name}"
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings(name).items() if variables else ():
            patch.setenv(key, value)
        return dict(COMMANDS[name].make_context(f"skep-{name}", arguments).params)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", COMMANDS)
def test_systemd_takes_a_unit_and_finds_it_confined(name: str, tmp_path: Path) -> None:
    text = unit(name).read_text(encoding="utf-8")
    installed = text.replace("/opt/skep/bin/", f"{Path(sys.executable).parent}/")
    here = tmp_path / unit(name).name.replace("@", "@node1")
    here.write_text(installed, encoding="utf-8")
    analyze("security", "--offline=true", f"--threshold={float(EXPOSED[name]) * 10:.0f}", here)
    # What is put beside it is only taken: it is for nodes that need more.
    for beside in UNITS.glob(f"{name}-*.conf"):
        folder = here.with_name(f"{here.name}.d")
        folder.mkdir(exist_ok=True)
        shutil.copy(beside, folder)
    analyze("verify", here)


def analyze(*words: str | Path) -> None:
    ran = subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=40, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    # Of names that it does not know it only warns.
    assert str(words[-1]) not in ran.stderr, ran.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_each_setting_is_one_of_the_command(name: str) -> None:
    options = {
        param.envvar or f"SKEP_{(param.name or '').upper()}" for param in COMMANDS[name].params
    }
    said = settings(name)
    assert said.keys() <= options
    before, after = (params(name, variables=False) if name != "worker" else {}), params(name)
    assert before != after


def test_the_three_find_each_other() -> None:
    api_, dbnode_, worker_ = (params(name) for name in ("api", "dbnode", "worker"))
    assert api_["db"] == dbnode_["bind"]
    assert worker_["api"] == api_["workers_bind"]
    assert worker_["token"] == api_["token"]
    # The worker takes the port behind for the other one, as it is told none.
    assert (worker_["pub"], api_["pub_bind"]) == (None, "tcp://10.0.0.1:3002")
    assert worker_["name"] == "node1"


def test_no_token_that_everybody_knows_is_taken_for_one(tmp_path: Path) -> None:
    ran = subprocess.run(
        [Path(sys.executable).with_name("skep-api"), "--data", str(tmp_path)],
        env={**os.environ, **settings("api")},
        capture_output=True, text=True, timeout=40, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "set --token" in ran.stderr
    assert settings("worker")["SKEP_TOKEN"] == ""


def test_the_firewall_table_has_the_ports_of_the_commands() -> None:
    table = dict(re.findall(r"^\| (\d+)/tcp \| ([\w ]+) \|", PAGE, re.MULTILINE))
    defaults = {
        "port": "api",
        "workers_bind": "api",
        "pub_bind": "api",
        "bind": "DB node",
    }
    ports = {
        re.findall(r"(\d+)$", str(param.default))[0]: where
        for command in COMMANDS.values()
        for param in command.params
        if (where := defaults.get(param.name or "")) is not None
    }
    assert table.items() >= ports.items()


def test_the_page_names_every_file() -> None:
    for file in UNITS.iterdir():
        assert file.name in PAGE, file.name
