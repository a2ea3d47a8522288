"""The params of a call as typed: JSON, pairs, files; and the settings of a function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import params, settings
from cli.units import MEMORY, SECONDS, VARIABLE

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_one_json_text_is_the_params(value: Any) -> None:
    assert params.read([json.dumps(value)], None) == value


@pytest.mark.parametrize(
    ("words", "is_list"),
    [(["a", "b c"], False), (["in.png", "1"], False), (["x=1"], True), (["-n", "{}"], True),
     ([], True)],
)  # fmt: skip
def test_words_that_are_neither_json_nor_pairs_are_arguments(
    words: list[str], is_list: bool
) -> None:
    assert params.read(words, None, is_list=is_list) == words


@given(st.dictionaries(st.from_regex(r"[a-zA-Z_][\w.-]*", fullmatch=True), JSON, min_size=1))
def test_pairs_whose_values_are_json_are_an_object(values: dict[str, Any]) -> None:
    words = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    assert params.read(words, None) == values


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["roll=4d6"], {"roll": "4d6"}),
        (["n=3", "ok=true", "x=null", "t=", "e=a=b"],
         {"n": 3, "ok": True, "x": None, "t": "", "e": "a=b"}),
        (['id="7"'], {"id": "7"}),
        (['l=[1, "a"]'], {"l": [1, "a"]}),
        (["n=NaN", "p=~/x", "j={broken"], {"n": "NaN", "p": "~/x", "j": "{broken"}),
        (["@type=x"], {"@type": "x"}),
        (['"a=b"'], "a=b"),
        (['{"a": "b=c"}'], {"a": "b=c"}),
        (["[1]"], [1]),
        (["7"], 7),
    ],
)  # fmt: skip
def test_what_words_stand_for(words: list[str], expected: Any) -> None:
    assert params.read(words, None) == expected


@pytest.mark.parametrize(
    ("words", "file", "word"),
    [
        (["a=1", "{}"], None, "only key=value"),
        (["{}", "a=1"], None, "only key=value"),
        (['{"a":', "2}"], None, "quote it"),
        (["a=1"], "p.json", "not from both"),
        (["a=1", "a=2"], None, "a is given twice"),
        (["{"], None, "not JSON"),
        (["NaN"], None, "not JSON"),
        (["hello"], None, "--list if it is an argument"),
        ([], "/nowhere/at/all", "No such file"),
        (["@/nowhere/at/all"], None, "No such file"),
        (["[" * 100_000], None, "not JSON"),
    ],
)
def test_what_is_none_is_a_usage_error_that_says_why(
    words: list[str], file: str | None, word: str
) -> None:
    with pytest.raises(click.UsageError, match=word):
        params.read(words, file)


def test_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"ä": 1}', encoding="utf-8")
    assert params.read([], str(path)) == params.read([f"@{path}"], None) == {"ä": 1}
    path.write_bytes(b'"\xff"')
    with pytest.raises(click.UsageError, match="UTF-8"):
        params.read([], str(path))


@pytest.mark.parametrize(
    ("text", "mib"), [("512", 512), ("512m", 512), ("1g", 1024), ("2GiB", 2048)]
)
def test_memory_is_spelled_as_docker_spells_it(text: str, mib: int) -> None:
    assert MEMORY.convert(text, None, None) == mib


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("0.5", 0.5), ("500ms", 0.5), ("2m", 120), ("30s", 30)]
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert SECONDS.convert(text, None, None) == seconds


@pytest.mark.parametrize(
    ("kind", "text"), [(MEMORY, "1t"), (MEMORY, "-1"), (SECONDS, "soon"), (VARIABLE, "=x")]
)
def test_what_is_no_amount_is_refused(kind: Any, text: str) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)


def test_a_variable_alone_has_the_value_it_has_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "a=b")
    assert VARIABLE.convert("MINE", None, None) == ("MINE", "a=b")
    assert VARIABLE.convert("MINE=", None, None) == ("MINE", "")
    with pytest.raises(click.BadParameter, match="not set here"):
        VARIABLE.convert("NOBODYS", None, None)


def test_variables_in_the_environment_are_quoted_as_in_a_shell() -> None:
    parts = VARIABLE.split_envvar_value("A=1 'B=two words'")
    assert [VARIABLE.convert(one, None, None) for one in parts] == [
        ("A", "1"),
        ("B", "two words"),
    ]


def test_options_win_over_the_file_and_env_is_put_together() -> None:
    said = {"runtime": "r", "entry": "m.f", "timeout": 9, "env": {"A": "1", "B": "1"}}
    merged = settings.merged(said, {"timeout": 3, "env": {"B": "2"}})
    assert merged == {"entry": "m.f", "timeout": 3, "env": {"A": "1", "B": "2"}}
    assert "entry" not in settings.merged(said, {"run": "sh run.sh"})


@pytest.mark.parametrize(
    ("content", "word"),
    [("{", "not JSON"), ("[]", "no JSON object"), ('{"timout": 1}', "timout")],
)
def test_a_settings_file_that_is_none_is_refused(
    tmp_path: Path, content: str, word: str
) -> None:
    (tmp_path / settings.FILE).write_text(content)
    with pytest.raises(click.UsageError, match=word):
        settings.of_folder(tmp_path)
