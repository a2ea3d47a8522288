"""What goes wrong between client and skep, on real sockets: what is repeated, and what not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from skep import (
    BadRequest,
    Conflict,
    NotReachable,
    QueueFull,
    SkepError,
    Unauthorized,
    Unavailable,
    UnknownCall,
    UnknownFunction,
    UnknownRuntime,
    UnknownWorker,
)
from tests.skep.both import Clock, made
from tests.skep.scripted import Cut, Hold, Pieces, Reset, Say, Script, call, error

DONE = call(result="ok")
PENDING = call("PENDING")
BUSY = Say(503, error("no_worker"))

LOSSES: list[Any] = [Reset(), Cut(Say(202, DONE)), Cut(Say(200, b"")), BUSY]


@pytest.mark.parametrize("loss", LOSSES, ids=["reset", "cut", "headers alone", "503"])
def test_a_call_that_was_perhaps_made_is_asked_for_again_with_its_key(
    client: Any, server: Script, loss: Any
) -> None:
    server.acts += [loss, loss, Say(202, DONE)]
    handle = client.submit("f", roll="4d6")
    assert handle.result() == "ok"
    assert len(server.asked) == 3
    assert len({(asked.key, asked.body) for asked in server.asked}) == 1
    assert len(server.asked[0].key) >= 32


def test_each_call_has_a_key_of_its_own_unless_one_is_given(
    client: Any, server: Script
) -> None:
    server.acts += [Say(202, DONE)] * 4
    for _ in range(2):
        client.submit("f")
    client.function("f", idempotency_key="mine").submit()
    client.submit_call("f", idempotency_key="mine")
    keys = [asked.key for asked in server.asked]
    assert keys[2:] == ["mine", "mine"]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("key", ["", "a b", "ü", "line\n", "x" * 256])
def test_a_key_that_no_header_carries_is_refused_here(
    client: Any, server: Script, key: str
) -> None:
    with pytest.raises(ValueError, match="visible ASCII"):
        client.submit_call("f", idempotency_key=key)
    assert server.asked == []


VERBS: dict[str, Callable[[Any], Any]] = {
    "submit_call": lambda c: c.submit_call("f"),
    "call": lambda c: c.call(1),
    "calls": lambda c: c.calls(),
    "logs": lambda c: c.logs(1),
    "cancel": lambda c: c.cancel(1),
    "runtimes": lambda c: c.runtimes(),
    "runtime": lambda c: c.runtime("r"),
    "register_runtime": lambda c: c.register_runtime({"image": "i", "path": "/"}),
    "delete_runtime": lambda c: c.delete_runtime("r"),
    "functions": lambda c: c.functions(),
    "get_function": lambda c: c.get_function("f", 2),
    "revisions": lambda c: c.revisions("f"),
    "register_function": lambda c: c.register_function("r", "f", b"bytes", memory=9),
    "register_image": lambda c: c.register_image("f", "i:1", memory=9, cpu=None),
    "update_function": lambda c: c.update_function("f", memory=None),
    "update_package": lambda c: c.update_function("f", b"bytes", entry=None, memory=9),
    "delete_function": lambda c: c.delete_function("f"),
    "workers": lambda c: c.workers(),
    "resume_worker": lambda c: c.resume_worker("node1"),
    "delete_worker": lambda c: c.delete_worker("node1"),
    "queues": lambda c: c.queues(),
    "health": lambda c: c.health(),
    "versions": lambda c: c.versions(),
    "metrics": lambda c: c.metrics(),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_every_verb_may_be_repeated_and_says_the_same_again(
    client: Any, server: Script, verb: Callable[[Any], Any]
) -> None:
    server.acts += [Reset(), Say(429, error("queue_full")), Say(200, call())]
    verb(client)

    def without_boundary(body: bytes) -> bytes:
        return body.replace(body.partition(b"\r\n")[0], b"") if b"\r\n" in body else body

    said = {(a.method, a.path, without_boundary(a.body)) for a in server.asked}
    assert (len(server.asked), len(said)) == (3, 1)


REFUSALS = [
    (400, "bad_request", BadRequest),
    (400, "unsafe_archive", BadRequest),
    (413, "too_large", BadRequest),
    (415, "unsupported_archive", BadRequest),
    (401, "unauthorized", Unauthorized),
    (403, "forbidden", SkepError),
    (404, "unknown_function", UnknownFunction),
    (404, "unknown_runtime", UnknownRuntime),
    (404, "unknown_call", UnknownCall),
    (404, "unknown_worker", UnknownWorker),
    (405, "method_not_allowed", SkepError),
    (409, "conflict", Conflict),
    (500, "internal", SkepError),
]


@pytest.mark.parametrize(("status", "code", "kind_of"), REFUSALS)
def test_a_refusal_is_raised_at_once_with_code_and_hint(
    client: Any, server: Script, clock: Clock, status: int, code: str, kind_of: type[SkepError]
) -> None:
    server.acts += [Say(status, error(code))]
    with pytest.raises(SkepError) as caught:
        client.submit("f")
    raised = caught.value
    assert type(raised) is kind_of
    assert (raised.code, raised.message, raised.hint) == (code, "it is so", "do that")
    assert (raised.status, len(server.asked), clock.slept) == (status, 1, [])
    assert raised.__notes__ == ["hint: do that"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, b"<html>gateway"),
        (301, b""),
        (404, b"[]"),
        (400, b'{"error": 1}'),
        (400, b'{"error": {"code": "bad_request"}}'),
        (200, b"<html>welcome"),
        (200, b"\xff"),
        (200, b"[" * 9999),
    ],
)
def test_a_stranger_who_answers_is_told_apart(
    client: Any, server: Script, status: int, body: bytes
) -> None:
    server.acts += [Say(status, body)]
    with pytest.raises(SkepError, match="not in the words of skep") as caught:
        client.runtimes()
    assert (caught.value.code, caught.value.status) == ("internal", status)


def test_a_stranger_who_speaks_no_http_is_not_reachable(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def greet() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")
                connection.recv(1)

        thread = threading.Thread(target=greet)
        thread.start()
        with made(kind, url, retries=0) as client, pytest.raises(NotReachable):
            client.health()
        thread.join()


def test_what_skep_asks_to_wait_is_waited_and_a_little_more(
    client: Any, server: Script, clock: Clock
) -> None:
    server.acts += [
        Say(429, error("queue_full"), {"Retry-After": "7"}),
        Say(503, error("no_worker"), {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}),
        Say(202, DONE),
    ]
    client.submit("f")
    assert 7 <= clock.slept[0] <= 7.1
    assert 0 <= clock.slept[1] <= 0.2


def test_a_pause_longer_than_the_timeout_is_not_begun(
    client: Any, server: Script, clock: Clock
) -> None:
    server.acts += [Say(429, error("queue_full"), {"Retry-After": "3600"})]
    with pytest.raises(QueueFull) as caught:
        client.submit("f")
    assert (caught.value.retry_after, clock.slept) == (3600, [])


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_retries_are_counted(kind: str, server: Script, clock: Clock, retries: int) -> None:
    server.acts += [BUSY] * 9
    with made(kind, server.url, clock=clock, retries=retries) as client:
        with pytest.raises(Unavailable) as caught:
            client.submit("f")
        assert (caught.value.code, len(server.asked)) == ("no_worker", retries + 1)
        assert len(clock.slept) == retries


def test_nobody_there(kind: str, clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
    with made(kind, url, clock=clock) as client:
        with pytest.raises(NotReachable, match=url) as caught:
            client.health()
        assert (caught.value.code, caught.value.status) == ("not_reachable", 0)
        assert "skep up" in caught.value.hint
        assert caught.value.__cause__ is not None
        assert len(clock.slept) == 6
        for number, pause in enumerate(clock.slept):
            assert 0 <= pause <= 0.1 * 2**number


def test_silence_counts_as_lost(kind: str, server: Script) -> None:
    until = threading.Event()
    server.acts += [Hold(until, Say(200, []))] * 2
    try:
        with made(kind, server.url, timeout=0.2) as client:
            with pytest.raises(NotReachable, match=r"Timeout|timed out"):
                client.functions()
            # All of the timeout went into the first attempt.
            assert len(server.asked) == 1
    finally:
        until.set()


@pytest.mark.parametrize("what", ["runtime", "function"])
def test_what_is_not_found_after_a_lost_answer_was_removed(
    client: Any, server: Script, what: str
) -> None:
    remove = getattr(client, f"delete_{what}")
    gone = Say(404, error(f"unknown_{what}"))
    server.acts += [Reset(), gone, BUSY, gone]
    remove("x")
    # A 503 has removed nothing.
    with pytest.raises(SkepError) as caught:
        remove("x")
    assert caught.value.status == 404


def test_the_log_of_a_preparation_that_breaks_off_is_asked_for_again(
    client: Any, server: Script
) -> None:
    begun = [b'{"log": "one\\n"}\n{"lo']
    end = b'{"status": 201, "function": {"functionName": "f"}}'
    server.acts += [Pieces(begun, whole=False), Pieces([b'{"log": "two\\n"}\n', end + b"\n"])]
    logs: list[str] = []
    function = client.register_function("r", "f", b"x", prepare=True, on_log=logs.append)
    assert function == {"functionName": "f"}
    assert logs == ["one\n", "two\n"]
