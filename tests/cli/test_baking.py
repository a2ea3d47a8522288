"""What a baked image is made of, as texts; and what is said before anything is built."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli import baking
from tests.cli.scripted import Script, run
from wire import baked
from wire.errors import BadRequest

SHA = "0" * 64
FUNCTION: dict[str, Any] = {
    "functionName": "dice", "runtimeName": "python", "revision": 3, "image": None,
    "package": {"sha256": SHA, "size": 1, "originalname": "dice.tar.gz"},
    "timeout": 7.5, "env": {"A": "secret"}, "entry": "dice.roll", "callCount": 4,
    "preload": None,
}  # fmt: skip
RUNTIME: dict[str, Any] = {
    "name": "python", "image": "python:1", "path": "/ws", "dependencies": "pip3 install 'x y'",
    "run": "python3 test.py", "agent": "python", "revision": 2,
}  # fmt: skip


def recipe(user: str = "", **runtime: Any) -> baking.Recipe:
    return baking.recipe(FUNCTION, {**RUNTIME, **runtime}, user)


def steps(one: baking.Recipe) -> list[str]:
    return baking.dockerfile(one, "s").splitlines()


def test_the_final_image_has_all_but_what_it_was_installed_with() -> None:
    lines = steps(recipe())
    second = lines.index("FROM python:1")
    assert lines[0] == "FROM python:1 AS installed"
    assert f'COPY --from=installed ["/ws", "{baked.BUNDLE}/"]' in lines[second:]
    assert not any(baking.GIVEN_INSIDE in line for line in lines[second:])
    assert f'LABEL {baked.LABEL}="{baked.digest(recipe().spec)}"' in lines[second:]
    assert 'SKEP_TIMEOUT="7.5"' in lines[-4]
    # What may be secret is the function's; what its package index asks for is the installer's.
    assert "secret" not in "\n".join(lines)
    script = baking.install(recipe(), {"PIP_INDEX_URL": "https://a:b c@host/"})
    assert "export PIP_INDEX_URL='https://a:b c@host/'\n" in script
    assert script.splitlines()[-2] == "sh -c 'pip3 install '\"'\"'x y'\"'\"''"


@pytest.mark.parametrize(
    ("user", "is_now"),
    [("", baking.NOBODY), ("root", baking.NOBODY), ("0:0", baking.NOBODY), ("node", "node")],
)
def test_processes_have_the_images_user_but_root(user: str, is_now: str) -> None:
    assert f"USER {is_now}" in steps(recipe(user))[-2:]


def test_what_a_dockerfile_would_read_otherwise_is_quoted_or_refused() -> None:
    (line,) = {s for s in steps(recipe(env={"A": 'x "$HOME" \\'})) if "A=" in s and "REV" in s}
    assert 'A="x \\"\\$HOME\\" \\\\"' in line
    assert "${PATH:-" in line
    for wrong in ({"env": {"A": "x\nUSER 0"}}, {"image": "python\nUSER 0"}):
        with pytest.raises(BadRequest, match="line break"):
            steps(recipe(**wrong))
    # A path that would hide the image's system is stood in for, as on nodes.
    assert json.loads(baking.init(recipe(path="/usr")))["path"] == "/ws"


@pytest.mark.parametrize("change", ["package", "image", "path", "dependencies", "env"])
def test_another_image_is_needed_for_other_code_and_not_for_other_settings(change: str) -> None:
    own = baked.digest(recipe().spec)
    if change == "package":
        other = {**FUNCTION, "package": {**FUNCTION["package"], "sha256": "1" * 64}}
        assert baked.digest(baking.recipe(other, RUNTIME, "").spec) != own
    else:
        value: Any = {"B": "c"} if change == "env" else "/other"
        assert baked.digest(recipe(**{change: value}).spec) != own
    settings: dict[str, Any] = {"timeout": 9.0, "entry": None, "run": "x", "env": {}}
    assert baked.digest(baking.recipe(FUNCTION | settings, RUNTIME, "").spec) == own


def test_what_cannot_be_baked_or_pushed_is_said_first(server: Script) -> None:
    server.answers += [(200, {**FUNCTION, "image": "x:1"}), (200, FUNCTION), (200, RUNTIME)]
    tag = ("--tag", "dice:1")
    says = {
        ("function", "build", "dice", *tag): "skep function push dice",
        ("function", "build", "dice", *tag, "--push"): "'dice:1' names no registry",
        ("function", "push", "dice"): "skep function build dice",
        ("runtime", "push", "python"): "names no registry",
        ("function", "build", "dice", *tag, "--build-env", "PATH=/x"): "cannot set PATH",
    }
    for words, text in says.items():
        result = run(*words, SKEP_URL=server.url)
        assert result.exit_code == 2, result.output
        assert text in " ".join(result.stderr.split())
