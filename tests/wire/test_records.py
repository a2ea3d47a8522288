"""Requests of the DB node: JSON and MessagePack alike, and nothing else."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import codec, errors, models, records

CALL = models.Call(
    func_name="dice",
    params=msgspec.Raw(b'{"roll":"4d6"}'),
    call_num=1,
    id="u",
    runtime_name="py",
    revision=1,
    accepted_at="2026-01-01T00:00:00.000Z",
)
RECORD = models.CallRecord(
    call=CALL,
    rev=1,
    api="api",
    epoch=1,
    runtime_revision=1,
    timeout_ms=5000,
    max_wait_ms=600_000,
)
WRITE = records.WriteCalls(api="api", epoch=1, records=(RECORD,))


def test_a_request_there_and_back() -> None:
    assert records.decode_request(records.encode_request(WRITE)) == WRITE


def test_params_that_stay_as_stored() -> None:
    kept = msgspec.structs.replace(CALL, params=msgspec.Raw(b""))
    record = msgspec.structs.replace(RECORD, call=kept)
    write = records.WriteCalls(api="api", epoch=1, records=(record, RECORD))
    again = records.decode_request(records.encode_request(write))
    assert again == write
    assert isinstance(again, records.WriteCalls)
    assert [bytes(each.call.params) for each in again.records] == [b"", b'{"roll":"4d6"}']


def test_the_same_in_messagepack() -> None:
    plain = msgspec.json.decode(records.encode_request(WRITE))
    frame = codec.pack(plain)
    assert not records.is_json(frame)
    again = records.decode_request(frame)
    assert isinstance(again, records.WriteCalls)
    params = again.records[0].call.params
    assert msgspec.json.decode(params) == {"roll": "4d6"}


@pytest.mark.parametrize("name", records.REQUESTS)
def test_a_request_of_another_version_is_that_whatever_else_it_says(name: str) -> None:
    for content in (b"{}", b'{"callNum":0}', b"7"):
        frame = b'{"msgType":"%s","content":%s,"protocol":99}' % (name.encode(), content)
        with pytest.raises(errors.WrongVersion, match="99"):
            records.decode_request(frame)


@pytest.mark.parametrize(
    "request_",
    [
        WRITE,
        records.Ping(),
        records.OpenApi(api="a"),
        records.ReadCatalogue(),
        records.LeaseCalls(api="a", epoch=1, count=2),
        records.GetCall(call_num=1),
        records.FindCall(idempotency_key="k"),
        records.ListCalls(),
    ],
    ids=lambda request: type(request).__name__,
)
def test_what_an_api_says_is_read_at_once(
    request_: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(records, "_by_steps")
    assert records.decode_request(records.encode_request(request_)) == request_


def test_the_order_of_a_request_s_fields_says_nothing() -> None:
    plain = msgspec.json.decode(records.encode_request(WRITE))
    for names in itertools.permutations(plain):
        frame = msgspec.json.encode({name: plain[name] for name in names})
        assert records.decode_request(frame) == WRITE


def test_answers_are_alike() -> None:
    reply = records.encode_reply(records.ApiOpened(epoch=3))
    assert records.alike(b"{}", reply) == reply
    assert codec.unpack(records.alike(b"\x80", reply)) == {"ok": True, "content": {"epoch": 3}}


def test_the_record_shows_the_seeds_fields_first() -> None:
    shown = list(msgspec.json.decode(models.to_json(CALL)))
    assert shown[:5] == ["funcName", "params", "callNum", "status", "result"]


def test_an_error_comes_back_as_itself() -> None:
    reply = records.encode_reply(errors.StaleEpoch("older", hint="stop"))
    with pytest.raises(errors.StaleEpoch, match="older") as caught:
        records.decode_reply(records.OpenApi(api="api"), reply)
    assert caught.value.hint == "stop"


def test_an_unknown_error_code_stays_an_error() -> None:
    with pytest.raises(errors.SkepError, match="no"):
        records.decode_reply(
            records.Ping(), b'{"ok":false,"error":{"code":"new","message":"no"}}'
        )


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"", "not a request"),
        (b"{", "not a request"),
        (b"{}", "msgType"),
        (b'{"msgType":"nope"}', "unknown msgType 'nope'"),
        (b'{"msgType":"ping","protocol":-1}', ">= 0"),
        (b'{"msgType":"getCall","content":{"callNum":0}}', ">= 1"),
        (b'{"msgType":"getCall","content":{"callNum":"1"}}', "int"),
        (b"\x93\x01", "not a request"),
        (b"\xc1", "not a request"),
        (b"\xd6\xff\x00\x00\x00\x01", "not a request"),
        (b"\x81\xc4\x01\xff\x01", "not a request"),
        (b"\x81\x91\x01\x01", "not a request"),
        (b"\x81\xa7msgType\xd6\xff\x00\x00\x00\x01", "not a request"),
        (b"{" * 100_000, "not a request"),
    ],
)
def test_bad_requests(frame: bytes, says: str) -> None:
    with pytest.raises(errors.BadRequest, match=says):
        records.decode_request(frame)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda b: b"{" + b))
def test_random_bytes_raise_nothing_else(frame: bytes) -> None:
    with pytest.raises(errors.BadRequest):
        records.decode_request(frame)
    with pytest.raises(errors.ProtocolError):
        records.decode_reply(records.Ping(), frame)


def test_every_error_code_is_unique() -> None:
    assert len(errors.BY_CODE) == len({cls.code for cls in errors.BY_CODE.values()})
    for code, cls in errors.BY_CODE.items():
        again = errors.from_dict({"code": code, "message": "m", "hint": "h"})
        assert type(again) is cls
        assert again.as_dict() == {"code": code, "message": "m", "hint": "h"}


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)


@given(NAMES, NAMES, st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_key_comes_apart_again(project: str, name: str, revision: int, runtime: int) -> None:
    key = models.revision_key(project, name, revision, runtime)
    assert models.parse_key(key) == (project, name, revision, runtime)


@pytest.mark.parametrize("key", ["", "x", "a/b", "a/b@1", "/b@1.1", "a/@1.1", "a/b@x.y"])
def test_no_key(key: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        models.parse_key(key)
