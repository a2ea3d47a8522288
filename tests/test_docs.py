"""The documents tell the truth: what they name is there."""

from __future__ import annotations

import ast
import re
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = ("api", "cli", "dbnode", "miniworker", "runtimes", "skep", "wire", "worker")
PLACE = re.compile(rf"`((?:{'|'.join(ROOMS)})/[\w/]+\.py)(?:: ([\w.]+))?`")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")


def defined(path: Path) -> set[str]:
    """Return the names of all functions and classes of a module, methods also by class."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)
            }
    return names


def test_the_way_of_a_call_leads_to_real_places() -> None:
    places = PLACE.findall(ARCHITECTURE)
    assert len(places) > 40
    for file, name in places:
        assert (ROOT / file).is_file(), file
        assert not name or name in defined(ROOT / file), f"{file}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_room_is_packaged_linted_and_typed() -> None:
    """A new top-level package is invisible to import contracts until it is listed."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    rooms -= {"tests", "benchmarks", "deploy"}
    code = rooms - {"runtimes"}
    assert rooms == set(config["options"]["packages"].split())
    assert code == set(config["importlinter"]["root_packages"].split())
    assert code <= {name.strip() for name in config["mypy"]["files"].split(",")}
    for name in code:
        assert (ROOT / name / "py.typed").is_file(), name


def test_what_is_no_module_is_packaged_too() -> None:
    """``pip install .`` gives agents, runtimes and what ``skep function new`` writes."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    data = config["options.package_data"]
    for package, folder in (("runtimes", "."), ("cli", "templates")):
        packaged = {
            path
            for pattern in data[package].split("\n")
            if pattern and not pattern.startswith("#")
            for path in (ROOT / package).glob(pattern)
        }
        there = (ROOT / package / folder).rglob("*")
        needed = {path for path in there if path.is_file() and "__pycache__" not in path.parts}
        needed.discard(ROOT / package / "__init__.py")
        assert needed
        assert needed <= packaged | {ROOT / package / "py.typed"}


def test_every_process_has_its_command() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].split("\n")
    pairs = (line.split("=") for line in lines if line)
    scripts = {name.strip(): place.strip() for name, place in pairs}
    assert set(scripts) == {"skep", "skep-api", "skep-dbnode", "skep-worker"}
    for place in scripts.values():
        module, _, name = place.partition(":")
        assert callable(getattr(import_module(module), name))
