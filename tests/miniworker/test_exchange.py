"""Requests and answers of servers, and what these mean: by examples, without a socket."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniworker.answers import SAID_CHARS, result_of
from miniworker.exchange import Answer, Exchange
from wire.errors import ProtocolError

PARAMS = b'{"a": 1}'


def exchange(limit: int = 100) -> Exchange:
    return Exchange("localhost:80", {"X-Skep-Call": "7"}, PARAMS, limit)


def answered(*pieces: bytes, limit: int = 100) -> Answer:
    """Return the answer that these bytes, and then the end, are."""
    one = exchange(limit)
    for piece in (*pieces, b""):
        if answer := one.take(piece):
            return answer
    raise AssertionError("no answer")


def test_a_request_is_a_post_of_the_params_and_the_last_on_its_connection() -> None:
    head, _, body = exchange().request.partition(b"\r\n\r\n")
    assert body == PARAMS
    first, *lines = head.decode().split("\r\n")
    assert first == "POST / HTTP/1.1"
    assert {"X-Skep-Call: 7", "Content-Length: 8", "Connection: close"} <= set(lines)


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
)


@given(st.lists(st.integers(0, len(CHUNKED))))
def test_an_answer_may_come_in_any_pieces(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(CHUNKED)]
    pieces = [CHUNKED[a:b] for a, b in itertools.pairwise(places)]
    assert answered(*filter(None, pieces)).body == b"abcde"


def test_an_answer_may_end_with_its_connection_or_follow_a_notice() -> None:
    assert answered(b"HTTP/1.0 200 OK\r\n\r\nall", b" of it").body == b"all of it"
    notice = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    found = answered(notice, b"HTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n")
    assert (found.status, found.phrase, found.body, found.is_whole) == (201, "Made", b"", True)


def test_what_is_over_the_limit_is_not_read() -> None:
    one = exchange(limit=10)
    found = one.take(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 11)
    assert found is not None
    assert not found.is_whole
    result, body = result_of(1, found)
    assert (result.code, body) == ("result_too_large", b"")
    # The status says more than the size of what came with it.
    refused = answered(b"HTTP/1.1 500 No\r\n\r\n" + b"x" * 2000, limit=1500)
    assert result_of(1, refused)[0].message == f"it answered 500 No: {'x' * SAID_CHARS}"


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",)])
def test_a_connection_that_ends_too_early_is_no_answer(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(EOFError):
        answered(*pieces)


@pytest.mark.parametrize(
    "said", [b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000]
)
def test_what_is_no_http_is_none(said: bytes) -> None:
    with pytest.raises(ProtocolError):
        answered(said)


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("application/json", b"[1]", "json"), ("Application/JSON; charset=x", b"1", "json"),
        ("application/problem+json", b"{}", "json"), ("application/json", b"", "text"),
        ("application/json", b"\xff", "text"), ("text/json", b"{}", "text"), ("", b"1", "text"),
        ("application/json", b"[" * 100_000, "text"),
    ],
)  # fmt: skip
def test_json_is_what_says_so_and_is(kind: str, body: bytes, expected: str) -> None:
    answer = Answer(status=200, phrase="", content_type=kind, body=body, is_whole=True)
    result, kept = result_of(3, answer)
    assert (result.attempt, result.status, result.result_type) == (3, "DONE", expected)
    assert kept == body


@pytest.mark.parametrize("status", [199, 301, 404, 503])
def test_every_other_status_is_failed(status: int) -> None:
    answer = Answer(status=status, phrase="", content_type="", body=b"", is_whole=True)
    result, _ = result_of(1, answer)
    assert (result.status, result.code) == ("FAILED", "http_status")
    assert result.message == f"it answered {status}"
