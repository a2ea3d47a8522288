"""The examples of each language: registered as they lie here, dependencies and all."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests import engine
from tests.miniworker.rig import Rig, open_folder, probe, spec
from wire import jobs
from wire.models import Runtime, Status

HERE = Path(__file__).parents[2] / "runtimes"
NAMES = ("node", "php", "python", "shell")
PLACES = [
    "auto",
    pytest.param("container", marks=[pytest.mark.docker, pytest.mark.timeout(600)]),
]
RUNS = {"node": "node", "php": "php", "shell": "sh", "python": "python3"}


@pytest.mark.parametrize("name", NAMES)
def test_runtime_json_is_a_runtime(name: str) -> None:
    runtime = msgspec.json.decode((HERE / name / "runtime.json").read_bytes(), type=Runtime)
    assert (runtime.name, runtime.image) == (f"{name}runtime", f"{name}runtime")
    assert (runtime.agent, runtime.path) == (name, "/ws")
    assert runtime.run.startswith(RUNS[name])


@pytest.mark.parametrize("name", NAMES)
def test_an_image_installs_nothing_but_its_language_and_is_not_root(name: str) -> None:
    lines = (HERE / name / "Dockerfile").read_text().splitlines()
    python = (HERE / "python" / "Dockerfile").read_text().splitlines()
    body, pattern = lines[lines.index("FROM ${BASE}") :], python[python.index("FROM ${BASE}") :]
    differ = [one for one, other in zip(body, pattern, strict=True) if one != other]
    assert all(one.startswith(("CMD", "      ca-certificates ")) for one in differ)
    assert "ARG BASE=debian:bookworm-slim" in lines
    assert "USER 65532:65532" in lines


@pytest.mark.parametrize("name", ["php", "shell"])
@pytest.mark.parametrize(("roll", "dice"), [("4d6", 4), ("1d1", 1), ("1000d20", 1000)])
def test_a_roll(name: str, roll: str, dice: int) -> None:
    done = _roll(name, HERE / name / "dice", roll)
    numbers = json.loads(done.stdout)
    assert len(numbers) == dice
    assert all(1 <= number <= int(roll.partition("d")[2]) for number in numbers)


@pytest.mark.parametrize("name", ["php", "shell"])
@pytest.mark.parametrize("roll", ["", "d6", "4d", "-4d6", "4d6 ", "٤d6"])
def test_a_bad_roll_says_so(name: str, roll: str) -> None:
    done = _roll(name, HERE / name / "dice", roll)
    assert done.returncode != 0
    assert "4d6" in done.stdout + done.stderr
    assert done.stdout.lstrip()[:1] != "["


def test_a_dependency_within_the_package_is_installed_without_a_registry(
    tmp_path: Path,
) -> None:
    if not shutil.which("npm"):
        pytest.skip("this host has no npm")
    folder = tmp_path / "dice"
    shutil.copytree(HERE / "node" / "dice", folder)
    runtime = msgspec.json.decode((HERE / "node" / "runtime.json").read_bytes(), type=Runtime)
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    env["NPM_CONFIG_REGISTRY"] = "http://127.0.0.1:9/"
    subprocess.run(
        ["sh", "-c", runtime.dependencies], cwd=folder, env=env, check=True, timeout=120
    )
    assert len(json.loads(_roll("node", folder, "4d6").stdout)) == 4
    assert "4d6" in _roll("node", folder, "four").stderr


def _roll(name: str, folder: Path, roll: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which(RUNS[name]):
        pytest.skip(f"this host has no {RUNS[name]}")
    file = {"node": "test.js", "php": "test.php", "shell": "test.sh"}[name]
    return subprocess.run(
        [RUNS[name], str(folder / file)],
        input=json.dumps({"roll": roll}, ensure_ascii=False),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _installed(
    rig: Rig, name: str, bundle: Path, env: dict[str, str]
) -> tuple[dict[str, Any], jobs.Built]:
    """Run a runtime's dependencies command in a bundle; return the runtime, and how it went."""
    runtime = json.loads((HERE / name / "runtime.json").read_bytes())
    given = {field: runtime[field] for field in ("dependencies", "run", "agent")}
    given["image"] = f"{engine.IMAGES}/{name}"
    mini = rig.spawn()
    order = spec(runtime=given)
    mini.send(jobs.Build(spec=order, bundle=str(bundle), timeout_ms=120_000, env=env))
    built, shown = mini.built()
    assert built.reason is None, (built, shown)
    rig.clear()
    return given, built


def _place(level: str, name: str, tool: str, folder: Path) -> dict[str, Any]:
    if level == "container":
        engine.runtime_image(name)
    elif not shutil.which(tool):
        pytest.skip(f"this host has no {tool}")
    return probe(open_folder(folder), level)


@pytest.mark.parametrize("level", PLACES)
def test_the_example_of_node_from_its_package_to_its_answers(
    level: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = _place(level, "node", "npm", tmp_path_factory.mktemp("dice"))
    with Rig(found["settings"], driver=found["driver"]) as rig:
        bundle = rig.bundle({})
        shutil.copytree(HERE / "node" / "dice", bundle, dirs_exist_ok=True)
        env = {"NPM_CONFIG_REGISTRY": "http://127.0.0.1:9/"}
        given, built = _installed(rig, "node", bundle, env)
        assert "added 1 package" in built.log
        for more in ({}, {"entry": "dice.roll"}):
            mini = rig.spawn()
            ready = mini.specialise(spec(runtime=given, **more), bundle)
            assert isinstance(ready, jobs.Ready), ready
            outcome, result, _, stderr = mini.call(b'{"roll": "4d6"}')
            assert outcome.status is Status.DONE, stderr
            assert len(json.loads(result)) == 4
        faces = mini.call(b'{"roll": "3d1", "faces": true}')[1]
        assert json.loads(faces) == "⚀ ⚀ ⚀"
        rig.clear()
        rig.check()


#: A package with another one in it, that composer needs no registry for.
COMPOSED = {
    "composer.json": json.dumps({
        "repositories": [{"type": "path", "url": "lib/greet"}, {"packagist.org": False}],
        "require": {"me/greet": "*"},
    }),
    "lib/greet/composer.json": json.dumps({
        "name": "me/greet", "version": "1.0.0", "autoload": {"files": ["greet.php"]},
    }),
    "lib/greet/greet.php": '<?php function greet($name) { return "hello $name"; }',
    "test.php": "<?php require 'vendor/autoload.php';"
                " echo greet(json_decode(stream_get_contents(STDIN))->name);",
    "hello.php": "<?php require 'vendor/autoload.php';"
                 " function main($name) { return greet($name); }",
}  # fmt: skip


@pytest.mark.parametrize("level", PLACES)
def test_composer_installs_what_a_php_package_asks_for(
    level: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = _place(level, "php", "composer", tmp_path_factory.mktemp("composed"))
    with Rig(found["settings"], driver=found["driver"]) as rig:
        bundle = rig.bundle(COMPOSED)
        given, built = _installed(rig, "php", bundle, {})
        assert "Installing me/greet (1.0.0)" in built.log
        for more, result in (({}, b"hello Ada"), ({"entry": "hello.main"}, b'"hello Ada"')):
            mini = rig.spawn()
            ready = mini.specialise(spec(runtime=given, **more), bundle)
            assert isinstance(ready, jobs.Ready), ready
            outcome, said, _, stderr = mini.call(b'{"name": "Ada"}')
            assert said == result, (outcome, stderr)
        rig.clear()
        rig.check()
