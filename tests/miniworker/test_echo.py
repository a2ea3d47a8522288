"""An echo in pipes of this very machine: what is written behind what was printed comes back."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniworker.echo import WORD_BYTES, Echo


class Printer:
    """A process that prints nothing, and the other ends of its streams."""

    def __init__(self, **streams: Any) -> None:
        pipes = os.pipe(), os.pipe()
        given = {"stdout": pipes[0][1], "stderr": pipes[1][1], **streams}
        self.process: subprocess.Popen[bytes] = subprocess.Popen(["sleep", "60"], **given)
        self._ends = pipes[0][0], pipes[1][0]
        for end, written in pipes:
            os.set_blocking(end, False)
            os.close(written)

    def out(self, most: int = 999) -> bytes:
        """Return what is in its stdout."""
        return os.read(self._ends[0], most)

    def err(self) -> bytes:
        """Return what is in its stderr."""
        return os.read(self._ends[1], 999)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for end in self._ends:
            os.close(end)


@pytest.fixture
def printer() -> Iterator[Printer]:
    made = Printer()
    yield made
    made.end()


def test_what_was_printed_before_comes_before_the_word(printer: Printer) -> None:
    echo = Echo(printer.process.pid)
    assert not echo.is_awaited
    assert echo.call()
    out, err = printer.out(), printer.err()
    assert len(out) == len(err) == WORD_BYTES
    assert echo.take(b"one" + out + b"two", b"") == (b"onetwo", b"")
    assert repr(echo) == "<Echo: 1 to come>"
    assert echo.take(b"", err) == (b"", b"")
    assert not echo.is_awaited
    echo.close()


@given(
    said=st.lists(st.binary(max_size=40), min_size=2, max_size=5),
    cuts=st.lists(st.integers(min_value=0, max_value=200), max_size=8),
)
def test_the_word_is_taken_out_however_it_is_cut(said: list[bytes], cuts: list[int]) -> None:
    printer = Printer()
    try:
        echo = Echo(printer.process.pid)
        for _ in said[1:]:
            assert echo.call()
        words = printer.out(), printer.err()
        word = words[0][:WORD_BYTES]
        whole = word.join(said)
        places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
        heard = b""
        for start, end in itertools.pairwise(places):
            heard += echo.take(whole[start:end], b"")[0]
        heard += echo.take(b"", words[1])[0]
        assert not echo.is_awaited
        assert heard == b"".join(said)
        echo.close()
    finally:
        printer.end()


def test_a_beginning_of_the_word_is_kept_back_only_while_one_is_awaited(
    printer: Printer,
) -> None:
    echo = Echo(printer.process.pid)
    echo.call()
    word = printer.out()
    assert echo.take(b"said" + word[:5], b"") == (b"said", b"")
    assert echo.take(b"no word", word[:3]) == (word[:5] + b"no word", b"")
    assert echo.give_up() == (b"", word[:3])
    assert not echo.is_awaited
    assert not echo.call()


def test_a_word_that_comes_too_late_is_no_log(printer: Printer) -> None:
    echo = Echo(printer.process.pid)
    echo.call()
    word = printer.out()
    echo.give_up()
    assert echo.take(b"next" + word[:5], b"") == (b"next", b"")
    assert echo.take(word[5:] + b" call", word) == (b" call", b"")
    assert echo.take(word[:5], b"") == (word[:5], b"")


def test_a_full_pipe_gets_the_word_once_it_is_read(printer: Printer) -> None:
    echo = Echo(printer.process.pid)
    with Path(f"/proc/{printer.process.pid}/fd/1").open("wb", buffering=0) as pipe:
        os.set_blocking(pipe.fileno(), False)
        while pipe.write(b"x" * 4096):
            pass
    assert echo.call()
    assert len(printer.err()) == WORD_BYTES
    printed = printer.out(1 << 20)
    assert printed == b"x" * len(printed)
    assert echo.take(printed, b"") == (printed, b"")
    assert len(printer.out()) == WORD_BYTES
    echo.close()


@pytest.fixture(params=["file", "filter"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """Where a process prints to that is no pipe of who started it."""
    if request.param == "file":
        yield os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)
        assert (tmp_path / "log").stat().st_size == 0
        return
    end, written = os.pipe()
    reader = subprocess.Popen(["cat"], stdin=end, stdout=subprocess.PIPE)
    os.close(end)
    yield written
    said, _ = reader.communicate()
    assert said == b""


def test_what_goes_elsewhere_is_left_alone(elsewhere: int) -> None:
    printer = Printer(stdout=elsewhere)
    os.close(elsewhere)
    try:
        echo = Echo(printer.process.pid)
        assert not echo.call()
        # That of stderr comes, and is taken out.
        assert echo.take(b"", printer.err()) == (b"", b"")
        assert not echo.is_awaited
        echo.close()
    finally:
        printer.end()


def test_one_that_has_ended_has_no_echo(printer: Printer) -> None:
    echo = Echo(printer.process.pid)
    printer.process.kill()
    printer.process.wait()
    assert not echo.call()
    echo.close()
    assert not Echo(printer.process.pid).call()


def test_the_end_of_a_pipe_is_still_seen(printer: Printer) -> None:
    echo = Echo(printer.process.pid)
    echo.call()
    printer.process.kill()
    printer.process.wait()
    assert len(printer.out()) == WORD_BYTES
    assert printer.out() == b""
    echo.close()
