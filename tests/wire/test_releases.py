"""Releases of one protocol version mix; those of another are named and sent away."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.wire.test_codec import SAMPLES
from wire import codec, errors, jobs, messages, records, releases
from wire.codec import Dialect, Message

OTHER = codec.VERSION + 1
HELLO = next(one for _, one in SAMPLES if isinstance(one, messages.Hello))


def with_version(message: Message, version: int = OTHER) -> list[bytes]:
    """Return the frames of a message as a peer of another version would send them."""
    head, *rest = codec.encode(message, b"")
    return [bytes((head[0], version, head[2])), *rest]


@pytest.mark.parametrize(("dialect", "message"), SAMPLES, ids=lambda v: type(v).__name__)
def test_what_a_newer_release_appends_is_ignored(
    dialect: Dialect[Message], message: Message
) -> None:
    head, header, payload = codec.encode(message, b"x")
    newer = codec.pack([*codec.unpack(header), {"of": "tomorrow"}, 7])
    assert dialect.decode((head, newer, payload)) == (message, b"x")


def test_what_a_newer_release_adds_to_requests_and_answers_is_ignored() -> None:
    frame = b'{"msgType":"openApi","since":1,"content":{"api":"a","mood":"new"},"protocol":1}'
    assert records.decode_request(frame) == records.OpenApi(api="a")
    reply = b'{"ok":true,"content":{"epoch":3,"mood":"new"},"since":1}'
    assert records.decode_reply(records.OpenApi(api="a"), reply) == records.ApiOpened(epoch=3)
    order: dict[str, Any] = msgspec.json.decode(jobs.encode_order(jobs.Kill(miniworker="m1")))
    assert jobs.decode_order(msgspec.json.encode(order | {"mood": 1})) == jobs.Kill(
        miniworker="m1"
    )


def test_only_a_refusal_is_understood_across_versions() -> None:
    refuse = messages.Refuse(code="wrong_version", message="no", hint="upgrade")
    assert messages.FROM_API.decode(with_version(refuse))[0] == refuse
    for dialect, message in SAMPLES:
        if not isinstance(message, messages.Refuse):
            with pytest.raises(errors.WrongVersion, match=f"version {OTHER}"):
                dialect.decode(with_version(message))


def test_a_stranger_is_known_by_its_greeting() -> None:
    frames = with_version(HELLO)
    # Whatever follows the first fields may be different there.
    frames[1] = codec.pack([*codec.unpack(frames[1])[:5], "many", {}])
    who = releases.stranger(frames, messages.Hello)
    assert who == releases.Stranger(OTHER, HELLO.name, HELLO.version)
    assert releases.stranger(
        with_version(jobs.Up(miniworker="m1", pid=4)), jobs.Up
    ) == releases.Stranger(OTHER, "m1")


@pytest.mark.parametrize(
    "header", [b"", b"\xc1", codec.pack(7), codec.pack([1]), codec.pack([1, 2, "\n", 4, 5])]
)
def test_a_stranger_may_say_anything(header: bytes) -> None:
    frames = with_version(HELLO)
    frames[1] = header
    assert releases.stranger(frames, messages.Hello) == releases.Stranger(OTHER)


def test_who_speaks_this_version_or_none_is_no_stranger() -> None:
    assert releases.stranger(codec.encode(HELLO), messages.Hello) is None
    assert releases.stranger([b"GET / HTTP/1.1", b""], messages.Hello) is None
    assert releases.stranger(
        with_version(messages.Bye(session=1)), messages.Hello
    ) == releases.Stranger(OTHER)


def test_a_refusal_names_both_sides_and_what_to_do() -> None:
    there = releases.named("worker", "node2", "2.0")
    error = releases.refusal(there, OTHER, releases.named("api", "", "1.0"))
    assert error.message == (
        f"worker node2 (release 2.0) speaks protocol version {OTHER}, "
        f"api (release 1.0) speaks {codec.VERSION}"
    )
    assert "upgrade the older one" in error.hint


def test_a_request_of_another_version_is_refused_and_one_by_hand_is_not() -> None:
    with pytest.raises(errors.WrongVersion, match=f"version {OTHER}, its DB node speaks"):
        records.decode_request(b'{"msgType":"ping","protocol":%d}' % OTHER)
    assert records.decode_request(b'{"msgType":"ping"}') == records.Ping()
