"""What an installer prints: whole words, no secrets, bounded whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniworker import printed
from miniworker.building import built
from miniworker.printed import Printed, last_lines
from wire import jobs
from wire.messages import Outcome
from wire.models import Fault, Reason, Status

INDEX = "https://ada:s3cr%40et@pypi.example/simple"
ENV = {"PIP_INDEX_URL": INDEX, "PIP_EXTRA_INDEX_URL": "https://tok3n@two.example/s"}
ENV |= {"NPM_CONFIG__AUTH": "base64word", "PLAIN": "public"}
SECRETS = ("s3cr%40et", "s3cr@et", "tok3n", "base64word")
PIECES = st.sampled_from(
    [
        INDEX,
        "tok3n",
        "base64word",
        "s3cr@et",
        "public",
        " ",
        "\n",
        "\r",
        "x",
        "https://a@b/",
        "é",
    ]
)


@given(st.lists(PIECES), st.lists(st.integers(1, 9)))
def test_no_secret_is_shown_however_it_is_cut(words: list[str], cuts: list[int]) -> None:
    text = " ".join(words).encode()
    out, shown, at = Printed([ENV]), "", 0
    for cut in [*cuts, len(text)]:
        out.take(text[at : at + cut])
        at += cut
        shown += out.piece()
    out.end()
    shown += out.piece()
    assert not any(secret in shown + out.tail for secret in SECRETS)
    assert shown == out.mask(text.decode())
    assert out.tail == shown[-printed.TAIL_CHARS :]


@given(st.lists(st.binary(max_size=3000), max_size=30))
def test_any_bytes_are_taken_in_bounded_memory(pieces: list[bytes]) -> None:
    out = Printed()
    for piece in pieces:
        out.take(piece)
        assert len(out._word) <= printed.WORD_BYTES
        assert len(out.tail) <= printed.TAIL_CHARS
    out.end()


def test_a_word_without_end_is_left_out_and_what_follows_is_not() -> None:
    out = Printed()
    for _ in range(100):
        out.take(b"x" * 1000)
    out.take(b"xx after")
    out.end()
    assert out.piece() == f"[a word of more than {printed.WORD_BYTES} bytes] after"


def test_what_is_shown_live_has_an_end_and_the_tail_goes_on() -> None:
    out, shown = Printed(), ""
    for number in range(300_000):
        out.take(b"line %d\n" % number)
        while piece := out.piece():
            assert len(piece) <= printed.PIECE_CHARS
            shown += piece
    assert shown.startswith("line 0\n")
    assert shown.endswith(printed.ENOUGH)
    assert len(shown) == printed.LIVE_CHARS + len(printed.ENOUGH)
    assert out.tail.endswith("line 299999\n")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ""),
        ("a\n\nb\n", "a\nb"),
        ("10%\r50%\r100%\r\ndone\n", "100%\ndone"),
        ("\x1b[31mERROR\x1b[0m: no\x07\n", "ERROR: no"),
        ("".join(f"{n}\n" for n in range(50)), "\n".join(map(str, range(30, 50)))),
        ("x" * 10_000, "x" * printed.LAST_CHARS),
    ],
)
def test_the_last_lines_are_plain_and_few(text: str, lines: str) -> None:
    assert last_lines(text) == lines


def end(status: Status, reason: str) -> jobs.Done:
    outcome = Outcome(status=status, reason=Reason(code="x", message=reason))
    return jobs.Done(call=1, attempt=1, outcome=outcome, sizes=(0, 0, 0))


def told(status: Status, text: bytes, dependencies: str = "make it") -> jobs.Built:
    out = Printed([ENV])
    out.take(text)
    return built(end(status, "it exited with the code 3"), b"", dependencies, out)


def test_a_failure_names_the_command_how_it_ended_and_what_it_said() -> None:
    answer = told(Status.FAILED, b"first\nno such thing\n", "pip  install \\\n x")
    assert answer.reason is not None
    assert answer.fault is Fault.FUNCTION
    assert answer.reason.code == "install_failed"
    assert answer.reason.message == (
        "the dependencies were not installed: `pip install \\ x`: it exited with the code 3; "
        "its last lines:\nfirst\nno such thing"
    )


def test_a_silent_failure_says_so_and_a_secret_in_the_command_is_hidden() -> None:
    answer = told(Status.FAILED, b"", f"pip install -i {INDEX} x")
    assert answer.reason is not None
    assert answer.reason.message.endswith("it printed nothing")
    assert "https://***@pypi.example/simple" in answer.reason.message
    long = told(Status.FAILED, b"", "x" * 10_000)
    assert long.reason is not None
    assert len(long.reason.message) < 400


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (Status.FAILED, b"write: No space left on device\n", "no_space"),
        (Status.LOST, b"", "x"),
        (Status.CANCELLED, b"", "x"),
    ],
)
def test_what_is_the_nodes_fault(status: Status, text: bytes, code: str) -> None:
    answer = told(status, text)
    assert answer.reason is not None
    assert (answer.fault, answer.reason.code) == (Fault.NODE, code)
