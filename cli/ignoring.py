"""The front door of pathspec: what of a folder is not packed.

Each folder may hold a ``.gitignore`` and a ``.skepignore``, with git's rules: the nearest
folder decides, the last pattern that fits wins, and nothing below a left-out folder comes
back. In one folder ``.skepignore`` counts after ``.gitignore``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pathspec import GitIgnoreSpec

from skep import SkepError

FILES: Final = (".gitignore", ".skepignore")
#: Never packed, whatever an ignore file says: history, and what is made again.
NEVER: Final = (
    ".git", ".hg", ".svn", "__pycache__", "*.pyc", "*.pyo", ".venv", *FILES, "/skep.json",
)  # fmt: skip
#: Not packed unless an ignore file brings it back, as ``!node_modules/`` does.
USUALLY_NOT: Final = (
    "node_modules/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".DS_Store",
)  # fmt: skip


class BadIgnoreFile(SkepError):
    """An ignore file that cannot be read as one; the message names it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_folder", hint="mend that file")


class Ignoring:
    """The rules of one folder and of those above it, up to the packed one."""

    def __init__(self, above: Ignoring | None, prefix: str, spec: GitIgnoreSpec | None) -> None:
        self.above = above
        self._prefix = prefix
        self._spec = spec

    def below(self, folder: Path, prefix: str) -> Ignoring:
        """Return the rules inside ``folder``, whose path from the root is ``prefix``."""
        spec = _read(folder)
        return Ignoring(self, prefix, spec) if spec else self

    def leaves_out(self, path: str, *, is_folder: bool) -> bool:
        """Return whether a path, relative to the root, is not packed."""
        shown = path + "/" * is_folder
        if _NEVER.match_file(shown):
            return True
        rules: Ignoring | None = self
        while rules is not None:
            said = rules.say(shown)
            if said is not None:
                return said
            rules = rules.above
        return False

    def say(self, path: str) -> bool | None:
        """Return what this folder's own rules say of a path: out, in, or nothing."""
        if self._spec is None:
            return None
        return self._spec.check_file(path[len(self._prefix) :]).include


def _read(folder: Path) -> GitIgnoreSpec | None:
    lines: list[str] = []
    for name in FILES:
        file = folder / name
        try:
            lines += file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BadIgnoreFile(f"{file}: {error.strerror}") from error
    try:
        return GitIgnoreSpec.from_lines(lines) if lines else None
    except (ValueError, re.error) as error:
        raise BadIgnoreFile(f"an ignore file in {folder}: {error}") from error


_NEVER: Final = GitIgnoreSpec.from_lines(NEVER)
#: Where packing begins: the rules that stand even where no ignore file does.
ROOT: Final = Ignoring(None, "", GitIgnoreSpec.from_lines(USUALLY_NOT))
