"""Log lines: one line each, of one shape in all processes, as text or as JSON.

Every line says when, how grave, which logger, which process on which node; one about a call
also which call, attempt, function and trace. Say that with ``wire.about``::

    log.info("ended %s", status, extra=about(call=17, attempt=1, function="dice"))

What a line quotes may come from anybody: it is clipped, and its control characters are
escaped, so that nobody can forge a line or play with a terminal.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from types import TracebackType
from typing import Any, Final, Literal

log = logging.getLogger(__name__)

Format = Literal["text", "json"]
FORMATS: Final = ("text", "json")
LEVELS: Final = ("debug", "info", "warning", "error")
MAX_CHARS: Final = 4_000
MAX_TRACEBACK_CHARS: Final = 16_000
#: C0 and C1 controls, line and paragraph separators, and what turns the writing direction.
_CONTROLS: Final = (
    *(*range(0x20), *range(0x7F, 0xA0)),
    *(0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)),
)
_ESCAPES: Final = {code: ascii(chr(code))[1:-1] for code in _CONTROLS}
#: Of a call, in text; JSON has the trace too.
_SHOWN: Final = ("call", "attempt", "function")
_GRAVE: Final = frozenset({"WARNING", "ERROR", "CRITICAL"})
_TEXT_LINE: Final = re.compile(r"^\S+ ([A-Z]+) ")
#: A line of a traceback begins with this, so that none can pass for a line of its own.
_INDENT: Final = "    | "


def setup(level: str, form: Format, *, process: str, node: str) -> None:
    """Write the lines of this process to stderr, and make one of all that Python puts there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[form](process=process, node=node))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(capture=True)
    sys.excepthook = _on_uncaught
    threading.excepthook = _on_uncaught_in_a_thread
    sys.unraisablehook = _on_unraisable


def _on_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    log.critical("ended by an error that nobody caught", exc_info=(kind, error, traceback))


def _on_uncaught_in_a_thread(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else "?"
    error = args.exc_value or args.exc_type()
    log.error("thread %s ended by an error that nobody caught", name, exc_info=error)


def _on_unraisable(args: Any) -> None:
    # The object itself is not named: its repr is code of whoever made it.
    log.error(
        "%s", args.err_msg or "an error where none can be raised", exc_info=args.exc_value
    )


def become(process: str, **who: str) -> None:
    """Be another process from here on, after a fork."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, Lines):
            handler.formatter.who |= {"process": process, **who}


def grave(line: str) -> str | None:
    """Return what a person is to see of a line: None unless it is a warning or worse."""
    if line.startswith("{"):
        return _grave_json(line)
    match = _TEXT_LINE.match(line)
    return line.partition(" ")[2] if match and match[1] in _GRAVE else None


class Lines(logging.Formatter):
    """Base of both shapes."""

    def __init__(self, **who: str) -> None:
        super().__init__()
        self.who = who

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        error = self.formatException(record.exc_info) if record.exc_info else ""
        told: dict[str, Any] = getattr(record, "about", {})
        message = _clipped(record.getMessage())
        return self.line(record, message, told, _clipped_error(error))

    def line(
        self, record: logging.LogRecord, message: str, told: dict[str, Any], error: str
    ) -> str:
        """Return the line of these parts."""
        raise NotImplementedError


class TextLines(Lines):
    """``TIME LEVEL   worker.node node1 call=17 attempt=1: message``."""

    def line(
        self, record: logging.LogRecord, message: str, told: dict[str, Any], error: str
    ) -> str:
        """Return the line, and a traceback's lines indented below it."""
        process, node, *more = self.who.values()
        named = record.name.partition(".")[0] == process
        where = record.name if named else f"{process}/{record.name}"
        words = [_moment(record), f"{record.levelname:<7}", where]
        words += ["/".join([node, *more])] if node != process else []
        words += [f"{key}={told[key]}" for key in _SHOWN if key in told]
        below = [_INDENT + escaped(line) for line in error.splitlines()]
        return "\n".join([escaped(f"{' '.join(words)}: {message}"), *below])


class JsonLines(Lines):
    """One JSON object; ``call`` is null on a line that is not about one."""

    def line(
        self, record: logging.LogRecord, message: str, told: dict[str, Any], error: str
    ) -> str:
        """Return the object."""
        said = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            **self.who,
            "call": None,
            **told,
            "message": message,
        }
        if error:
            said["error"] = error
        # ASCII alone: what is escaped can neither end the line nor reach a terminal.
        return json.dumps(said)


_FORMATTERS: Final = {"text": TextLines, "json": JsonLines}


def escaped(text: str) -> str:
    """Return a text on one line, whose control characters can be seen."""
    return text.translate(_ESCAPES)


def _clipped(text: str) -> str:
    left = len(text) - MAX_CHARS
    return text if left <= 0 else f"{text[:MAX_CHARS]}… ({left} characters left out)"


def _clipped_error(text: str) -> str:
    # The end of a traceback says what happened.
    left = len(text) - MAX_TRACEBACK_CHARS
    return text if left <= 0 else f"({left} characters left out) …{text[left:]}"


def _moment(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03d}Z"


def _grave_json(line: str) -> str | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    if not isinstance(said, dict) or said.get("level") not in _GRAVE:
        return None
    call = f" call={said['call']}" if said.get("call") else ""
    return escaped(f"{said['level']} {said.get('logger')}{call}: {said.get('message')}")
