"""Which installed sets may be shared between packages: a command and its files in. Pure.

A *layer* is what ``pip install`` makes of requirement files alone. It is installed in a folder
that holds these files and nothing else, so that it cannot depend on anything it is not named
by; what is decided here is whether it then is what the function's own install would be. In
doubt it is not: then the dependencies are installed in the bundle itself.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

#: Returns the content of a file of the package, None if it is not there (or no plain file).
Read = Callable[[str], bytes | None]

MAX_FILES: Final = 32
#: No quotes, expansions, patterns, redirections: words as they stand.
_PLAIN: Final = re.compile(r"[\w./:=,@%+ -]+")
_PIP: Final = re.compile(r"pip3?(\.\d+)?|python3? -m pip")
#: What ``python3 -m pip`` would run instead.
_SHADOWS: Final = ("pip.py", "pip/__main__.py", "pip/__init__.py")
_FILES: Final = ("-r", "--requirement", "-c", "--constraint")
_FLAGS: Final = frozenset(
    {
        *("-q", "-qq", "-qqq", "--quiet", "-v", "-vv", "-vvv", "--verbose"),
        *("-U", "--upgrade", "--pre", "--prefer-binary", "--no-deps", "--no-index"),
        *("--no-input", "--no-cache-dir", "--no-compile", "--compile", "--require-hashes"),
        *("--disable-pip-version-check", "--no-warn-script-location", "--no-color"),
        "--break-system-packages",
    }
)
_VALUES: Final = frozenset(
    {
        *("-i", "--index-url", "--extra-index-url", "--only-binary", "--no-binary"),
        *("--timeout", "--retries", "--trusted-host", "--progress-bar", "--root-user-action"),
        *("-f", "--find-links"),
    }
)
#: Their value may be a folder as well as a URL.
_TO_PLACES: Final = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links")
_ARCHIVE: Final = re.compile(r"\.(zip|whl|tar|tgz|tbz|txz|tlz|egg|(tar\.\w+))$", re.IGNORECASE)
_VERSION: Final = r"(===?|[<>~!]=|[<>])\s*[\w.*+!-]+"
_REQUIREMENT: Final = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)\s*(\[[\w\s.,-]*\])?\s*"
    rf"({_VERSION}(\s*,\s*{_VERSION})*)?\s*"
    r"(;[^@#]*?)?(\s+--hash[= ]\w+:\w+)*"
)
_COMMENT: Final = re.compile(r"(^|\s+)#.*$")
#: Variables of a runtime that an installer may have without minding the package.
_SAFE_ENV: Final = frozenset(
    {
        *(
            "PIP_NO_INDEX",
            "PIP_TRUSTED_HOST",
            "PIP_NO_CACHE_DIR",
            "PIP_TIMEOUT",
            "PIP_DEFAULT_TIMEOUT",
            "PIP_RETRIES",
            "PIP_PRE",
        ),
        *("PIP_PREFER_BINARY", "PIP_ONLY_BINARY", "PIP_NO_BINARY", "PIP_NO_DEPS", "PIP_CERT"),
        *("PIP_PROXY", "PIP_CLIENT_CERT", "PIP_DISABLE_PIP_VERSION_CHECK", "PIP_NO_INPUT"),
        *("PIP_QUIET", "PIP_VERBOSE", "PIP_PROGRESS_BAR", "PIP_ROOT_USER_ACTION"),
        *("PIP_REQUIRE_HASHES", "PIP_BREAK_SYSTEM_PACKAGES", "PIP_NO_COLOR"),
        *("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED"),
    }
)
#: Safe as well if every place in them is a URL, or a path that is no package's.
_PLACES: Final = frozenset(
    {
        *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"),
        *("PIP_CONSTRAINT", "PIP_CONFIG_FILE"),
    }
)
_UNSAFE_ENV: Final = re.compile(
    r"(PIP|PYTHON|LD|XDG)_?.*|PATH|HOME|TMPDIR|ENV|BASH_ENV|IFS|VIRTUAL_ENV|NETRC|SHELL"
)


@dataclass(frozen=True, slots=True)
class Layer:
    """An installed set, by all that it is made of beside runtime and settings."""

    #: Content by path in the package, sorted.
    files: tuple[tuple[str, bytes], ...]


def layer_of(dependencies: str, path: str, env: Mapping[str, str], read: Read) -> Layer | None:
    """Return the layer that this command makes of a package, None if it is none."""
    words = _words(dependencies)
    if words is None or not _is_harmless(env, path):
        return None
    if words[0] == "python" and any(read(name) is not None for name in _SHADOWS):
        return None
    files: dict[str, bytes] = {}
    try:
        asked = [_collect(file, files, read, path) for file in _arguments(words[1:], path)]
    except _NoLayer:
        return None
    return Layer(tuple(sorted(files.items()))) if asked else None


class _NoLayer(Exception):
    """What was found may depend on more than it names."""


def _refuse() -> NoReturn:
    raise _NoLayer


def _words(dependencies: str) -> list[str] | None:
    """Return the program (pip or python) and the arguments of its ``install``."""
    text = " ".join(dependencies.split())
    if "\n" in dependencies.strip() or not _PLAIN.fullmatch(text):
        return None
    program, install, arguments = text.partition(" install ")
    if not install or not _PIP.fullmatch(program):
        return None
    return ["python" if " " in program else "pip", *shlex.split(arguments)]


def _arguments(words: list[str], path: str) -> Iterator[str]:
    """Yield the files that arguments name; empty for a requirement of theirs."""
    rest = iter(words)
    for word in rest:
        name, _, value = word.partition("=")
        if name in _FILES:
            yield value or next(rest, "") or _refuse()
        elif re.match(r"-[rc]\S", word):
            yield word[2:]
        elif name in _VALUES:
            _check_place(name, value or next(rest, ""), path)
        elif word not in _FLAGS:
            _check_requirement(word)
            yield ""


def _collect(name: str, files: dict[str, bytes], read: Read, path: str) -> str:
    """Read a requirement file and what it includes."""
    name = posixpath.normpath(name) if name else ""
    if not name or name in files:
        return name
    if name.startswith(("/", "..")) or ":" in name or len(files) == MAX_FILES:
        raise _NoLayer
    content = read(name)
    if content is None:
        raise _NoLayer
    files[name] = content
    for line in _lines(content):
        for include in _included(line, path):
            _collect(posixpath.join(posixpath.dirname(name), include), files, read, path)
    return name


def _lines(content: bytes) -> Iterator[str]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise _NoLayer from None
    if "${" in text or "\0" in text:
        raise _NoLayer
    for line in text.replace("\r\n", "\n").replace("\\\n", " ").split("\n"):
        plain = _COMMENT.sub("", line).strip()
        if plain:
            yield plain


def _included(line: str, path: str) -> Iterable[str]:
    """Return the files that a line of a requirement file includes."""
    if not line.startswith("-"):
        _check_requirement(line)
        return ()
    words = line.replace("=", " ", 1).split()
    option, values = words[0], words[1:]
    if option in _FILES and len(values) == 1 and "://" not in values[0]:
        return values
    if option in _VALUES and len(values) == 1:
        _check_place(option, values[0], path)
    elif option not in _FLAGS or values:
        raise _NoLayer
    return ()


def _check_requirement(text: str) -> None:
    match = _REQUIREMENT.fullmatch(text)
    if match is None or _ARCHIVE.search(match["name"]):
        raise _NoLayer


def _check_place(option: str, value: str, path: str) -> None:
    if not value or (option in _TO_PLACES and not _is_elsewhere(value, path)):
        raise _NoLayer


def _is_elsewhere(place: str, path: str) -> bool:
    """Return whether a place to find packages is none in the function's package."""
    if place.startswith(("http://", "https://")):
        return True
    return place.startswith("/") and not _mentions(place, path)


def _is_harmless(env: Mapping[str, str], path: str) -> bool:
    return all(_is_harmless_one(name.upper(), value, path) for name, value in env.items())


def _is_harmless_one(name: str, value: str, path: str) -> bool:
    if name in _PLACES:
        return all(_is_elsewhere(place, path) for place in value.split())
    if _mentions(value, path):
        return False
    return name in _SAFE_ENV or not _UNSAFE_ENV.fullmatch(name)


def _mentions(text: str, path: str) -> bool:
    return posixpath.normpath(path) in text
