"""docs/cli.md and the commands tell the same: nothing undocumented, nothing invented."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.main import main
from cli.options import ALIASES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
#: Of every command, and said once at the head of the page.
SHARED = {"--url", "--token", "--json", "--no-color", "--help", "-h", "--version"}


def commands(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Give every command of the tree with its words."""
    if path:
        yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, name
            yield from commands(below, (*path, name))


TREE = dict(commands())
IDS = [" ".join(path) for path in TREE]


def options(command: click.Command) -> set[str]:
    """Return all spellings of the options that are not hidden."""
    found: set[str] = set()
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            found.update(param.opts, param.secondary_opts)
    return found


def sections() -> dict[tuple[str, ...], str]:
    """Return the text below each heading that names a command, up to the next heading."""
    found = {}
    for part in re.split(r"^#+ ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        if match := re.fullmatch(r"`skep ([\w -]+)`", heading.strip()):
            found[tuple(match[1].split())] = text
    return found


SECTIONS = sections()


def examples() -> list[list[str]]:
    """Return the words of every example, after ``skep``."""
    lines = re.findall(r"^\$ (?:.*\| )?skep (.*)$", PAGE, flags=re.MULTILINE)
    return [shlex.split(line) for line in lines]


def split(words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the command that the words name, and the rest of them."""
    for count in (2, 1):
        if tuple(words[:count]) in TREE:
            return tuple(words[:count]), words[count:]
    pytest.fail(f"there is no command skep {words[0]}")


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    assert set(TREE) == set(SECTIONS)


@pytest.mark.parametrize("path", TREE, ids=IDS)
def test_every_option_is_in_its_section(path: tuple[str, ...]) -> None:
    text = SECTIONS[path]
    if "(#settings-of-a-function)" in text:
        text += PAGE.partition("### Settings of a function")[2].partition("\n#")[0]
    said = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))
    assert options(TREE[path]) - SHARED <= said


def test_what_all_share_is_at_the_head() -> None:
    head = PAGE.partition("## Run it")[0]
    assert options(main) - {"--help", "-h", "--version"} <= set(re.findall(r"--[a-z-]+", head))
    for word, meaning in ALIASES.items():
        assert f"`{word}` for\n`{meaning}`" in head or f"`{word}` for `{meaning}`" in head


@pytest.mark.parametrize("path", [p for p in TREE if not isinstance(TREE[p], click.Group)])
def test_every_command_has_an_example(path: tuple[str, ...]) -> None:
    assert any(split(words)[0] == path for words in examples())


@pytest.mark.parametrize("words", examples(), ids=" ".join)
def test_an_example_names_what_is_there(words: list[str]) -> None:
    path, rest = split(words)
    known = options(TREE[path]) | options(main)
    assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known
    helped = CliRunner().invoke(main, [*path, "--help"])
    assert helped.exit_code == 0


@pytest.mark.parametrize("path", [(), *TREE], ids=["skep", *IDS])
def test_help_names_every_option_and_says_what_it_is(path: tuple[str, ...]) -> None:
    command = TREE.get(path, main)
    for flag in ("--help", "-h"):
        helped = CliRunner().invoke(main, [*path, flag], terminal_width=80)
        assert helped.exit_code == 0
        assert helped.stdout.startswith("Usage: ")
    assert all(option in helped.stdout for option in options(command))
    assert command.help
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            assert param.help, f"{param.name} has no help"
    assert max(map(len, helped.stdout.splitlines())) <= 80
    # Neither a cut sentence nor a mark for click that it did not understand.
    assert "..." not in helped.stdout.partition("Commands:")[2]
    assert "\\b" not in helped.stdout


@pytest.mark.parametrize("path", TREE, ids=IDS)
def test_what_all_share_is_understood_everywhere(path: tuple[str, ...]) -> None:
    if path not in (("up",), ("demo",)):
        assert options(main) - {"--version"} <= options(TREE[path]) | {"--help", "-h"}
