"""Another release of skep: a copy of this tree that says so, and may say it differently."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from wire.codec import VERSION

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = ("api", "dbnode", "miniworker", "wire", "worker", "runtimes")
#: A field that a release adds: the file, the line that it follows, the line.
Field = tuple[str, str, str]
#: A new field comes last, whatever a class ends with: the wire knows fields by their place.
HELLO_ENDS: Final = "be sent PACKs.\n    packs: bool = False\n"
#: What is said in each direction of each link.
NEWS: Final[tuple[Field, ...]] = (
    ("wire/messages.py", HELLO_ENDS, '    mood: str = "new in HELLO"\n'),
    ("wire/messages.py", '    tracestate: str = ""\n', '    mood: str = "new in START"\n'),
    ("wire/records.py", "    records: tuple[CallRecord, ...]\n", '    mood: str = "new"\n'),
    ("wire/records.py", "    epoch: Number\n", '    mood: str = "new"\n'),
)


def released(folder: Path, release: str, *news: Field, protocol: int = VERSION) -> Path:
    """Return the tree of a release; processes run from it with its path as PYTHONPATH."""
    for room in ROOMS:
        shutil.copytree(
            ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__")
        )
    about = folder / f"skep-{release}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: skep\nVersion: {release}\n")
    for name, line, more in news:
        edit(folder / name, line, line + more)
    if protocol != VERSION:
        speaks(folder, protocol)
    return folder


def speaks(tree: Path, protocol: int, before: int = VERSION) -> None:
    """Have what is started from a tree from now on speak another protocol version."""
    line = "VERSION: Final = {}\n"
    edit(tree / "wire/codec.py", line.format(before), line.format(protocol))


def edit(file: Path, before: str, after: str) -> None:
    """Change a file of a tree at its one such place."""
    text = file.read_text(encoding="utf-8")
    assert before in text, f"{file} has no {before!r}"
    file.write_text(text.replace(before, after), encoding="utf-8")
