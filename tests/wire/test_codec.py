"""Messages survive the way there and back; whatever else arrives is a ProtocolError."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import codec, jobs, messages
from wire.codec import Dialect, Message
from wire.errors import ProtocolError
from wire.models import Fault, Function, Item, Reason, Runtime, Spec, Status

REASON = Reason(code="raised", message="ValueError: no")
DONE = messages.Outcome(status=Status.DONE, duration_ms=1.5, miniworker="m1")
RUNTIME = Runtime(name="py", image="py", path="/ws", run="python3 test.py", revision=1)
FUNCTION = Function(function_name="dice", runtime_name="py", revision=3)
SPEC = Spec(function=FUNCTION, runtime=RUNTIME)

SAMPLES: list[tuple[Dialect[Message], Message]] = [
    (
        messages.FROM_WORKER,
        messages.Hello(
            node_id="n",
            boot="b",
            name="node1",
            pid=7,
            version="1",
            slots=4,
            sandbox="process",
            isolation="none",
            running=((1, 1), (2, 3)),
        ),
    ),
    (
        messages.FROM_WORKER,
        messages.Credit(session=1, seen=4, free=2, warm=(messages.Warm("k", 1),)),
    ),
    (
        messages.FROM_WORKER,
        messages.WorkerHeartbeat(
            session=1, seen=1, received=0, running=1, sandboxes=2, warm=(("k", 1),)
        ),
    ),
    (messages.FROM_WORKER, messages.Ready(session=1, call=2, attempt=3)),
    (messages.FROM_WORKER, messages.Progress(session=1, call=2, attempt=3, text="é")),
    (
        messages.FROM_WORKER,
        messages.Returned(session=1, call=2, attempt=3, fault=Fault.NODE, reason=REASON),
    ),
    (
        messages.FROM_WORKER,
        messages.Result(
            session=1,
            call=2,
            attempt=3,
            sizes=(0, 1, 2, 3),
            outcome=DONE,
            number=9,
            record=b"{}",
        ),
    ),
    (
        messages.FROM_WORKER,
        messages.Fetch(session=1, what="package", key="k", offset=0, credit=9),
    ),
    (messages.FROM_WORKER, messages.Sync(session=1, epoch="e", seq=4, keys=(SPEC.key,))),
    (messages.FROM_WORKER, messages.Bye(session=1)),
    (messages.FROM_WORKER, messages.BundleLog(session=1, ticket=2, text="é\n")),
    (
        messages.FROM_WORKER,
        messages.Bundled(session=1, ticket=2, fault=Fault.FUNCTION, reason=REASON),
    ),
    (messages.FROM_API, messages.Welcome(session=1, api="api", epoch="e", seq=4)),
    (messages.FROM_API, messages.Refuse(code="conflict", message="taken")),
    (messages.FROM_API, messages.Who()),
    (
        messages.FROM_API,
        messages.Catalogue(
            session=1,
            epoch="e",
            after=0,
            seq=2,
            items=(Item(seq=1, runtime=RUNTIME), Item(seq=2, function=FUNCTION)),
        ),
    ),
    (
        messages.FROM_API,
        messages.Prepare(session=1, call=2, attempt=1, key=SPEC.key, budget_ms=600_000),
    ),
    (
        messages.FROM_API,
        messages.Start(
            session=1, call=2, attempt=1, key=SPEC.key, timeout_ms=5000, size=2, record=b"{}"
        ),
    ),
    (messages.FROM_API, messages.Cancel(session=1, call=2, attempt=1, reason=REASON)),
    (messages.FROM_API, messages.Recorded(session=1, upto=7)),
    (
        messages.FROM_API,
        messages.Chunk(session=1, what="package", key="k", offset=0, total=9, error=REASON),
    ),
    (messages.FROM_API, messages.Bundle(session=1, ticket=2, spec=SPEC)),
    (messages.FROM_API, messages.Drain(session=1)),
    (messages.FROM_API, messages.Resume(session=1)),
    (messages.FROM_API, messages.ApiHeartbeat(session=1, epoch="e", seq=4, received=0)),
    (jobs.FROM_MINIWORKER, jobs.Up(miniworker="m1", pid=4)),
    (jobs.FROM_MINIWORKER, jobs.Ready(key=SPEC.key, took_ms=1.0)),
    (jobs.FROM_MINIWORKER, jobs.Returned(call=1, attempt=1)),
    (jobs.FROM_MINIWORKER, jobs.Done(call=1, attempt=1, outcome=DONE, sizes=(0, 0, 0))),
    (jobs.FROM_MINIWORKER, jobs.Built(reason=REASON, fault=Fault.FUNCTION, log="no")),
    (jobs.FROM_MINIWORKER, jobs.Printed(text="é\n")),
    (jobs.FROM_MINIWORKER, jobs.Pulling(percent=40)),
    (jobs.FROM_MINIWORKER, jobs.Pulled(reason=REASON, fault=Fault.NODE)),
    (jobs.FROM_MINIWORKER, jobs.Broken(fault=Fault.NODE, reason=REASON)),
    (jobs.FROM_MINIWORKER, jobs.Heartbeat(call=1, attempt=1)),
    (jobs.FROM_MINIWORKER, jobs.Dropped(count=1)),
    (jobs.TO_MINIWORKER, jobs.Build(spec=SPEC, bundle="b", timeout_ms=1000, env={})),
    (jobs.TO_MINIWORKER, jobs.Pull(image="i", how="missing")),
    (jobs.TO_MINIWORKER, jobs.Premake(spec=SPEC, bundles="b")),
    (jobs.TO_MINIWORKER, jobs.Specialise(spec=SPEC, bundle="b")),
    (jobs.TO_MINIWORKER, jobs.Job(call=1, attempt=1, timeout_ms=5000)),
    (jobs.TO_MINIWORKER, jobs.Cancel(call=1, attempt=1, reason=REASON)),
    (jobs.TO_MINIWORKER, jobs.Stop()),
    (jobs.TO_MINIWORKER, jobs.Recall()),
]


@pytest.mark.parametrize(("dialect", "message"), SAMPLES, ids=lambda v: type(v).__name__)
def test_there_and_back(dialect: Dialect[Message], message: Message) -> None:
    assert dialect.decode(codec.encode(message, b"payload")) == (message, b"payload")


@pytest.mark.parametrize("message", [message for _, message in SAMPLES])
def test_a_header_is_what_msgpack_makes_of_it(message: Message) -> None:
    assert codec.encode(message)[1] == codec.pack(message)


def test_there_is_a_sample_of_every_message() -> None:
    assert {type(message) for _, message in SAMPLES} == {
        cls
        for dialect in (
            messages.FROM_WORKER,
            messages.FROM_API,
            jobs.FROM_MINIWORKER,
            jobs.TO_MINIWORKER,
        )
        for cls in dialect.kinds.values()
    }


@pytest.mark.parametrize(("dialect", "message"), SAMPLES, ids=lambda v: type(v).__name__)
def test_the_other_side_may_not_say_it(dialect: Dialect[Message], message: Message) -> None:
    other = jobs.FROM_MINIWORKER if dialect is messages.FROM_API else messages.FROM_API
    with pytest.raises(ProtocolError, match="unknown kind"):
        other.decode(codec.encode(message))


HEAD = bytes((codec.MAGIC, codec.VERSION, messages.Ready.KIND))


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([], "0 frames"),
        ([HEAD, b""], "2 frames"),
        ([HEAD, b"", b"", b""], "4 frames"),
        ([b"", b"", b""], "no skep message"),
        ([b"\xa5\x01", b"", b""], "no skep message"),
        ([b"GET", b"", b""], "no skep message"),
        ([b"\xa5\x02\x04", b"", b""], "protocol version 2"),
        ([b"\xa5\x01\xff", b"", b""], "unknown kind 255"),
        ([HEAD, b"", b""], "bad Ready"),
        ([HEAD, b"\x93\x01\x02", b""], "bad Ready"),
        ([HEAD, codec.pack([1, 2]), b""], "bad Ready"),
        ([HEAD, codec.pack([1, 2, "3"]), b""], "bad Ready"),
        ([HEAD, codec.pack([0, 2, 3]), b""], "bad Ready"),
        ([HEAD, codec.pack({"session": 1}), b""], "bad Ready"),
        ([HEAD, codec.pack([1, 2, 3]) + b"\x01", b""], "bad Ready"),
        ([HEAD, b"\x91" * 100_000, b""], "bad Ready"),
        ([HEAD, b"\xa3\xff\xff\xff", b""], "bad Ready"),
        ([HEAD, b"\x81\xc0\x01", b""], "bad Ready"),
        ([HEAD, b"\x81\x91\x01\x01", b""], "bad Ready"),
        ([HEAD, b"\xd6\xff\xff\xff\xff\xff", b""], "bad Ready"),
    ],
)
def test_garbage_is_a_protocol_error(frames: list[bytes], says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        messages.FROM_WORKER.decode(frames)


@given(st.lists(st.binary(max_size=64), max_size=5), st.sampled_from(SAMPLES))
def test_random_frames_raise_nothing_else(
    frames: list[bytes], sample: tuple[Dialect[Message], Message]
) -> None:
    with suppress(ProtocolError):
        sample[0].decode(frames)


@given(st.data(), st.sampled_from(SAMPLES))
def test_damaged_messages_raise_nothing_else(
    data: st.DataObject, sample: tuple[Dialect[Message], Message]
) -> None:
    dialect, message = sample
    frames = [bytearray(frame) for frame in codec.encode(message, b"x")]
    frame = data.draw(st.sampled_from([frame for frame in frames if frame]))
    place = data.draw(st.integers(0, len(frame) - 1))
    frame[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        again, _ = dialect.decode([bytes(frame) for frame in frames])
    except ProtocolError:
        return
    assert dialect.decode(codec.encode(again))[0] == again


@given(st.recursive(st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(), st.lists))
def test_plain_data_survives_packing(value: object) -> None:
    assert codec.unpack(codec.pack(value)) == value


@pytest.mark.parametrize(
    "make",
    [
        lambda: messages.Outcome(status=Status.RUNNING),
        lambda: messages.Outcome(status=Status.FAILED),
        lambda: messages.Outcome(status=Status.DONE, reason=REASON),
        lambda: messages.Returned(session=1, call=1, attempt=1, fault=Fault.NODE),
        lambda: messages.Result(session=1, call=1, attempt=1, number=1),
        lambda: messages.Result(session=1, call=1, attempt=1, outcome=DONE),
        lambda: Item(seq=1),
        lambda: Item(seq=1, runtime=RUNTIME, function=FUNCTION),
    ],
)
def test_a_contradiction_cannot_be_made(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r".+"):
        make()


def test_messages_do_not_change() -> None:
    message = messages.Bye(session=1)
    with pytest.raises(AttributeError):
        message.session = 2  # type: ignore[misc]


def test_two_messages_of_one_kind_cannot_share_a_dialect() -> None:
    class Again(Message, frozen=True, kw_only=True):
        KIND = messages.Bye.KIND

    with pytest.raises(ValueError, match="share a kind"):
        Dialect[Message]("x", messages.Bye, Again)


@given(st.binary(max_size=80))
def test_zygote_packets_raise_nothing_else(packet: bytes) -> None:
    with suppress(ProtocolError):
        jobs.decode_order(packet)


def test_zygote_packets_there_and_back() -> None:
    for order in (
        jobs.Spawn(miniworker="m1", endpoint="ipc://x", driver="fake", folder="f"),
        jobs.Kill(miniworker="m1"),
        jobs.Spawned(miniworker="m1", pid=4),
        jobs.Exited(miniworker="m1", pid=4, status=-9),
    ):
        assert jobs.decode_order(jobs.encode_order(order)) == order
    assert msgspec.json.decode(jobs.encode_order(jobs.Kill(miniworker="m1")))["type"] == "Kill"
