"""What is decided without a socket: retries, params, values, pages, lines."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep import CallFailed, NotReachable, SkepError
from skep.dialogue import Answer, Ended, Lost, Pace, Pause, Request, advance, exchange
from skep.preparing import Preparation
from skep.values import CallOptions, params_of, value_of
from skep.verbs import Verbs
from tests.skep.both import Clock
from tests.skep.scripted import call, failed

FINE = Answer(200, {}, b"{}")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PASSING = st.one_of(
    st.builds(lambda late: Lost("gone", is_late=late), st.booleans()),
    st.builds(
        lambda status, after: Answer(status, {"retry-after": after} if after else {}, b"{}"),
        st.sampled_from([429, 503]),
        st.sampled_from(["", "0", "3", "-1", "soon", "99999"]),
    ),
)
FINAL = st.builds(
    lambda status: Answer(status, {}, b"{}"),
    st.sampled_from([200, 201, 202, 204, 301, 400, 401, 404, 409, 413, 500, 502, 504]),
)


@given(
    replies=st.lists(st.tuples(PASSING, st.floats(0, 20)), max_size=30),
    final=FINAL,
    retries=st.integers(0, 10),
    timeout_s=st.floats(0.1, 60),
    dice=st.floats(0, 1),
    patient=st.booleans(),
)
def test_retries_are_bounded_and_only_for_what_passes(
    replies: list[tuple[Answer | Lost, float]],
    final: Answer,
    retries: int,
    timeout_s: float,
    dice: float,
    patient: bool,
) -> None:
    clock = Clock()
    pace = Pace(retries, timeout_s, clock, lambda: dice)
    request = Request(method="GET", path="/", is_patient=patient)
    dialogue = exchange(request, pace)
    sent, was_refused = 0, False
    last: Answer | Lost = final
    step: Any = advance(dialogue, None)
    error: SkepError | None = None
    try:
        while not isinstance(step, Ended):
            if isinstance(step, Pause):
                clock.sleep(step.seconds)
                if isinstance(last, Answer) and last.retry_after_s:
                    assert step.seconds >= last.retry_after_s
                step = advance(dialogue, None)
                continue
            assert 0 < step.limit_s <= timeout_s
            last, took = replies[sent] if sent < len(replies) else (final, 0.0)
            sent += 1
            was_refused = was_refused or isinstance(last, Answer)
            # A transport gives up when the limit has passed.
            clock.now += min(took, step.limit_s)
            step = advance(dialogue, last)
    except SkepError as caught:
        error = caught
    assert patient or sent <= retries + 1
    assert clock.now - 1000.0 <= timeout_s + 1e-6
    if last is final:
        assert (error is None) == final.is_success
    else:
        is_told = isinstance(last, Answer) or (last.is_late and was_refused)
        assert isinstance(error, NotReachable) != is_told


def test_an_attempt_cut_off_does_not_hide_why_the_others_were_refused() -> None:
    clock = Clock()
    dialogue = exchange(Request(method="POST", path="/"), Pace(3, 10.0, clock, lambda: 0.0))
    full = Answer(503, {}, b'{"error": {"code": "store_unavailable", "message": "full"}}')
    advance(dialogue, None)
    clock.now += 6
    assert isinstance(advance(dialogue, full), Pause)
    cut = advance(dialogue, None)
    assert isinstance(cut, Request)
    assert cut.limit_s == 4
    clock.now += cut.limit_s
    with pytest.raises(SkepError) as told:
        advance(dialogue, Lost("timed out", is_late=True))
    assert told.value.code == "store_unavailable"


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_are_jittered_in_full_and_never_long(failures: int, dice: float) -> None:
    pause = Pace(3, 30.0, Clock(), lambda: dice).pause_s(failures, Lost("gone"))
    assert 0 <= pause <= 5
    assert pause == pytest.approx(dice * min(5.0, 0.1 * 2 ** min(failures - 1, 10)))


@pytest.mark.parametrize(
    ("arguments", "named", "params"),
    [
        ((), {}, {}),
        (({"roll": "4d6"},), {}, {"roll": "4d6"}),
        ((None,), {}, None),
        (([1, 2],), {}, [1, 2]),
        ((1, 2), {}, [1, 2]),
        (
            (),
            {"roll": "4d6", "self": 1, "function": 2},
            {"roll": "4d6", "self": 1, "function": 2},
        ),
    ],
)
def test_arguments_become_params(
    arguments: tuple[Any, ...], named: dict[str, Any], params: Any
) -> None:
    assert params_of(arguments, named) == params


def test_arguments_by_position_and_by_name_are_refused() -> None:
    with pytest.raises(TypeError, match="not both"):
        params_of((1,), {"roll": "4d6"})


@given(JSON)
def test_a_value_comes_back_as_json_and_text_stays_text(value: Any) -> None:
    text = json.dumps(value)
    assert value_of(call(result=text, resultType="json")) == value
    assert value_of(call(result=text)) == text


@given(st.binary())
def test_bytes_come_back_as_bytes(value: bytes) -> None:
    encoded = base64.b64encode(value).decode()
    assert value_of(call(result=encoded, resultEncoding="base64")) == value


def test_a_failed_call_says_all_about_itself() -> None:
    record = failed("ValueError: no dice", number=12)
    with pytest.raises(CallFailed) as caught:
        value_of(record)
    error = caught.value
    assert str(error) == "call 12 of f ended FAILED: ValueError: no dice"
    assert (error.code, error.record) == ("raised", record)
    assert "skep call logs 12" in error.hint


@pytest.mark.parametrize("status", ["LOST", "OOM", "TIMEOUT", "CANCELLED"])
def test_a_call_that_ended_without_a_reason_still_has_a_code(status: str) -> None:
    with pytest.raises(CallFailed) as caught:
        value_of(call(status))
    assert caught.value.code == status.lower()


def test_keys_of_many_calls_are_the_same_in_every_run() -> None:
    options = CallOptions(idempotency_key="job-7")
    assert options.idempotency_key == "job-7"
    assert [options.key(index) for index in (0, 1)] == ["job-7:0", "job-7:1"]
    assert CallOptions().key(3) is None


@given(st.data())
def test_lines_are_lines_however_the_bytes_come(data: st.DataObject) -> None:
    logs = data.draw(st.lists(st.text(), max_size=5))
    # As a server may send them: U+2028 and its like are no ends of lines here.
    lines = [json.dumps({"log": text}, ensure_ascii=False) for text in logs]
    lines += ["{}", '{"news": 1}', '{"status": 200, "function": {"functionName": "f"}}']
    whole = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    heard: list[str] = []
    preparation = Preparation(heard.append)
    request = Request(method="POST", path="/")
    dialogue = preparation.dialogue(request, 9, Pace(0, 9, Clock(), lambda: 0))
    step = advance(dialogue, None)
    assert isinstance(step, Request)
    assert step.query == {"prepare": "true"}
    for piece in pieces:
        if piece:
            preparation.take(piece)
    end: Any = advance(dialogue, Answer(200, {}, b""))
    assert end == Ended({"functionName": "f"})
    assert heard == [text for text in logs if text]


def test_a_line_that_is_none_is_told() -> None:
    for line in (b"<html>\n", b"7\n", b'{"status": "x"}\n'):
        with pytest.raises(SkepError, match="not in the words of skep"):
            Preparation(print).take(line)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_json_has_no_word_for_is_refused_before_it_is_sent(value: Any) -> None:
    verbs = Verbs(Pace(0, 1, Clock(), lambda: 0), lambda: "key")
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        advance(verbs.submit("f", value, settings={}), None)
    with pytest.raises(TypeError, match="serializable"):
        advance(verbs.submit("f", {1, 2}, settings={}), None)
