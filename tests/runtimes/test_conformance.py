"""What every agent does alike: languages, modes and cases, as tables, in real sandboxes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests import engine
from tests.conftest import eventually
from tests.miniworker.rig import Rig, open_folder, probe
from tests.runtimes.languages import LANGUAGES, TOO_MUCH, Language
from tests.runtimes.places import Place
from wire import jobs
from wire.models import Fault, Status

WORD = 'a "quoted" \\ wörd\nof two lines'
LOG = 2 * 65536
HANDLED = [one for one in LANGUAGES if one.handlers]
ISOLATIONS = ("none", "fork")
#: Where a sandbox of the process driver finds the programs of its host.
HOST_PATH = "/usr/local/bin:/usr/bin:/bin"


#: The first test that needs it may have to make the images.
PLACES = [
    "auto",
    pytest.param("container", marks=[pytest.mark.docker, pytest.mark.timeout(600)]),
]


@pytest.fixture(scope="session", params=PLACES)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The best that the process driver can do here, and containers."""
    return probe(open_folder(tmp_path_factory.mktemp("agents")), request.param)


@pytest.fixture(scope="module")
def shared(found: dict[str, Any]) -> Iterator[Rig]:
    with Rig(found["settings"], driver=found["driver"]) as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    yield shared
    shared.clear()
    shared.check()


@pytest.fixture(params=LANGUAGES, ids=str)
def language(request: pytest.FixtureRequest, rig: Rig) -> Language:
    """Each language, where its agent can run."""
    return _there(request.param, rig)


@pytest.fixture(params=HANDLED, ids=str)
def handled(request: pytest.FixtureRequest, rig: Rig) -> Language:
    """Each language that has handlers, where its agent can run."""
    return _there(request.param, rig)


def _there(language: Language, rig: Rig) -> Language:
    if rig.driver == "docker":
        engine.runtime_image(language.name)
    elif language.name != "python" and not shutil.which(language.program, path=HOST_PATH):
        pytest.skip(f"this host has no {language.program}: containers alone show it")
    return language


@pytest.fixture(params=ISOLATIONS)
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def script(rig: Rig, language: Language, **more: Any) -> Place:
    files = {language.test: language.script}
    return Place(rig, language, files, run=language.run, env={"WORD": WORD}, **more)


def command(rig: Rig, language: Language, run: str, **more: Any) -> Place:
    return Place(rig, language, {"note.txt": "noted"}, run=run, **more)


def handler(rig: Rig, language: Language, name: str, **more: Any) -> Place:
    files = {language.module: language.handlers}
    return Place(rig, language, files, entry=f"hello.{name}", env={"WORD": WORD}, **more)


def ended(place: Place, params: Any, code: str, says: str = "", **more: Any) -> tuple[str, str]:
    """Check that a call FAILED so; return its logs."""
    outcome, result, stdout, stderr = place.call(params, **more)
    assert outcome.reason is not None, outcome
    assert (outcome.status, outcome.reason.code) == (Status.FAILED, code), outcome
    assert says in outcome.reason.message
    assert result == b""
    return stdout, stderr


# --- script: the language's own program for each call ---------------------------------------

#: Params, and what comes of them if not themselves.
SAYS: list[tuple[Any, str | None]] = [
    ({"do": "echo", "é": [1, None, "\n"]}, None),
    ({"do": "env"}, f"{WORD} f"),
    ({"do": "file", "much": "x" * 70_000}, "True False"),
]


def test_a_script_finds_what_it_is_given(rig: Rig, language: Language) -> None:
    place = script(rig, language)
    for params, text in 2 * SAYS:
        wanted = text if text is not None else json.dumps(params)
        outcome, result, stdout, stderr = place.call(params)
        assert outcome.status is Status.DONE, (params["do"], outcome, stderr)
        assert result.decode().rstrip("\n") == wanted
        assert (stdout, stderr, outcome.result_type) == ("", "", "text"), params["do"]
    assert place.sandboxes == 1


FAILS = [
    ("exit", "exit_code", "the code 3", "part\n"),
    ("big", "result_too_large", f"it printed {TOO_MUCH} bytes", "x" * LOG),
    ("die", "signal", "SIGKILL", ""),
]


def test_a_script_that_fails_says_so_and_hurts_no_other(rig: Rig, language: Language) -> None:
    place = script(rig, language)
    for do, code, says, printed in 2 * FAILS:
        stdout, _ = ended(place, {"do": do}, code, says)
        assert stdout == printed, do
        assert place.call({"do": "echo"})[0].status is Status.DONE


def test_what_nobody_catches_has_its_type_text_and_traceback(
    rig: Rig, language: Language
) -> None:
    if not language.raised:
        pytest.skip("it has no exceptions")
    stdout, stderr = ended(script(rig, language), {"do": "raise"}, "raised", language.raised)
    assert stdout.strip() == "part"
    assert "no dice" in stderr
    assert language.test in stderr


def test_what_is_left_out_of_a_log_is_counted(rig: Rig, language: Language) -> None:
    outcome, result, stdout, stderr = script(rig, language).call({"do": "log"})
    assert (outcome.status, result, stdout) == (Status.DONE, b"done\n", "")
    assert stderr == "x" * LOG
    assert outcome.omitted == 300_000 - LOG


def test_a_script_out_of_time_keeps_its_log_and_the_next_is_right(
    rig: Rig, language: Language
) -> None:
    place = script(rig, language)
    assert place.call({"do": "echo"})[0].status is Status.DONE
    for _ in range(2):
        outcome, _, stdout, _ = place.call({"do": "wait"}, timeout_ms=1500)
        assert (outcome.status, stdout) == (Status.TIMEOUT, "so far\n"), outcome
    assert place.call({"do": "echo"})[0].status is Status.DONE


def test_a_script_is_cancelled(rig: Rig, language: Language) -> None:
    place = script(rig, language)
    outcome, _, stdout, _ = place.cancelled({"do": "wait"})
    assert (outcome.status, stdout) == (Status.CANCELLED, "so far\n")
    assert place.call({"do": "echo"})[0].status is Status.DONE


def test_a_script_finds_nothing_of_the_one_before(rig: Rig, language: Language) -> None:
    place = script(rig, language)
    for _ in range(2):
        outcome, result, _, stderr = place.call({"do": "write"})
        assert outcome.status is Status.DONE, stderr
        assert result.decode().strip() == f"['left', '{language.test}']"


def test_a_process_left_behind_ends_with_its_call(rig: Rig, language: Language) -> None:
    place = script(rig, language)
    for _ in range(2):
        outcome, result, *_ = place.call({"do": "behind"})
        assert (outcome.status, result) == (Status.DONE, b"done\n")
    assert place.processes("sleep") == []
    assert place.call({"do": "echo"})[0].status is Status.DONE


# --- command: any program, whatever the agent ------------------------------------------------

PRINTS = [
    ("cat note.txt", "noted"),
    ("cat", '{"a": "é"}'),
    ("printf '%s' 'two  words'", "two  words"),
    ("echo $SKEP_CALL $SKEP_REVISION", "1 3\n"),
    ("cat | tr a-z A-Z", '{"A": "é"}'),
    ("sh -c 'echo out >/dev/stdout'", "out\n"),
    ("cat /dev/stdin", '{"a": "é"}'),
    ("printenv SKEP_PARAMS", '{"a": "é"}\n'),
    ("true", ""),
]


@pytest.mark.parametrize(("run", "text"), PRINTS, ids=[one[0] for one in PRINTS])
def test_a_command(rig: Rig, language: Language, run: str, text: str) -> None:
    place = command(rig, language, run)
    for _ in range(2):
        outcome, result, stdout, stderr = place.call('{"a": "é"}'.encode())
        assert outcome.status is Status.DONE, (outcome, stderr)
        assert (result.decode(), stdout, stderr) == (text, "", "")


BREAKS = [
    ("no-such-program", "command_not_found", "'no-such-program' cannot be run"),
    ("./note.txt", "command_not_found", "chmod +x"),
    ("sh -c 'exit 7'", "exit_code", "the code 7"),
    ("echo part; kill -9 $$", "signal", "SIGKILL"),
    ("echo part; exit 137", "exit_code", "the code 137"),
    ("head -c 7000000 /dev/zero", "result_too_large", "7000000"),
]


@pytest.mark.parametrize(("run", "code", "says"), BREAKS, ids=[one[0] for one in BREAKS])
def test_a_command_that_fails(
    rig: Rig, language: Language, run: str, code: str, says: str
) -> None:
    place = command(rig, language, run)
    for _ in range(2):
        ended(place, {}, code, says)


def test_neither_run_nor_entry_says_so(rig: Rig, language: Language) -> None:
    broken = command(rig, language, "", runtime={"run": ""}).open()
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.FUNCTION, "command_not_found")


def test_a_language_without_handlers_says_so(rig: Rig, language: Language) -> None:
    if language.handlers:
        pytest.skip("it has handlers")
    broken = Place(rig, language, {}, entry="hello.main").open()
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.FUNCTION, "entry_not_found")
    assert language.name in broken.reason.message


# --- handler: loaded once, then called ------------------------------------------------------

#: By function, params and the value that comes of them, all in one sandbox.
VALUES: dict[str, list[tuple[Any, Any]]] = {
    "give": [
        ({"a": [1, {"b": None}], "é": 1.5}, {"a": [1, {"b": None}], "é": 1.5}),
        ([1, [2]], [1, [2]]),
        ([], []),
    ],
    "one": [("text\n", "text\n"), (1.5, 1.5), (None, None), ([True], True)],
    "nothing": [([], None)],
    "greet": [
        ({"name": "bée"}, "hello bée"),
        ({"name": "bee", "greeting": "hi"}, "hi bee"),
    ],
    "env": [(["WORD"], WORD), (["SKEP_CALL"], "1"), (["SKEP_DEADLINE_MS"], "20000")],
    "told": [([], 2)],
}


@pytest.mark.parametrize("name", VALUES)
def test_params_are_arguments_and_the_value_is_the_result(
    rig: Rig, handled: Language, isolation: str, name: str
) -> None:
    place = handler(rig, handled, name, isolation=isolation)
    for params, value in 2 * VALUES[name]:
        outcome, result, stdout, stderr = place.call(params)
        assert outcome.status is Status.DONE, (params, outcome, stderr)
        assert (outcome.result_type, stdout, stderr) == ("json", "", ""), params
        assert json.loads(result) == value
        assert outcome.peak_memory
    assert place.sandboxes == 1


def test_large_params_are_in_a_file(rig: Rig, handled: Language) -> None:
    files = {handled.module: handled.handlers}
    place = Place(rig, handled, files, entry="hello.one")
    much = "x" * 2_000_000
    assert json.loads(place.call([much])[1]) == much
    place = Place(rig, handled, files, entry="hello.told")
    told = place.call(b"[" + b" " * 70_000 + b"]")
    assert json.loads(told[1]) == 70_002, told


def test_state_is_kept_in_one_process_and_not_by_forks(rig: Rig, handled: Language) -> None:
    kept = handler(rig, handled, "counts")
    assert [json.loads(kept.call([])[1]) for _ in range(3)] == [1, 2, 3]
    forked = handler(rig, handled, "counts", isolation="fork")
    assert [json.loads(forked.call([])[1]) for _ in range(3)] == [1, 1, 1]


def test_an_async_function_is_awaited(rig: Rig, handled: Language, isolation: str) -> None:
    if not handled.has_async:
        pytest.skip("it has no async functions")
    place = handler(rig, handled, "later", isolation=isolation)
    assert [place.call([n])[1] for n in (1, 2)] == [b"1", b"2"]


def test_an_exception_has_its_type_text_and_traceback(
    rig: Rig, handled: Language, isolation: str
) -> None:
    place = handler(rig, handled, "fail", isolation=isolation)
    for _ in range(2):
        stdout, stderr = ended(place, [], "raised", handled.raised)
        assert stdout == ""
        assert handled.module in stderr
        assert "no dice" in stderr
        assert "agent" not in stderr
    assert place.sandboxes == 1


def test_a_value_that_json_does_not_have(rig: Rig, handled: Language) -> None:
    place = handler(rig, handled, "nan")
    _, stderr = ended(place, [], "raised", "cannot be JSON")
    assert "cannot be JSON" in stderr


def test_a_result_that_is_too_large(rig: Rig, handled: Language, isolation: str) -> None:
    place = handler(rig, handled, "big", isolation=isolation)
    ended(place, [TOO_MUCH], "result_too_large", str(TOO_MUCH + 2))
    assert json.loads(place.call([5])[1]) == "xxxxx"


def test_what_a_handler_prints_is_its_log_alone(
    rig: Rig, handled: Language, isolation: str
) -> None:
    place = handler(rig, handled, "says", isolation=isolation)
    for text in ("one", "three"):
        outcome, result, stdout, stderr = place.call([text])
        assert (json.loads(result), outcome.omitted) == (len(text), 0)
        assert (stdout, stderr) == (f"{text}\n", f"{text}!\n")
    place = handler(rig, handled, "much", isolation=isolation)
    for size in (10_000_000, 300_000):
        outcome, result, stdout, _ = place.call([size])
        assert (json.loads(result), len(stdout)) == ("done", LOG)
        assert outcome.omitted == size + 1 - LOG


def test_a_handler_out_of_time_keeps_its_log_and_the_next_is_right(
    rig: Rig, handled: Language, isolation: str
) -> None:
    place = handler(rig, handled, "wait", isolation=isolation)
    for _ in range(2):
        outcome, _, stdout, _ = place.call([], timeout_ms=1500)
        assert (outcome.status, stdout) == (Status.TIMEOUT, "so far\n"), outcome
    outcome, _, stdout, _ = place.cancelled([])
    assert (outcome.status, stdout) == (Status.CANCELLED, "so far\n")


DEATHS = [
    ("die_now", [], "signal", "SIGKILL"),
    ("leave_process", [0], "exit_code", "the code 0: a handler returns its result"),
    ("leave_process", [3], "exit_code", "the code 3: a handler returns its result"),
]


@pytest.mark.parametrize(("name", "params", "code", "says"), DEATHS)
def test_a_handler_whose_process_ends_fails_and_is_loaded_again(
    rig: Rig, handled: Language, isolation: str, name: str, params: Any, code: str, says: str
) -> None:
    place = handler(rig, handled, name, isolation=isolation)
    for _ in range(3):
        ended(place, params, code, says)


def test_a_process_that_a_handler_leaves_lives_on_and_that_of_a_fork_does_not(
    rig: Rig, handled: Language
) -> None:
    place = handler(rig, handled, "behind")
    for _ in range(2):
        assert place.call([])[0].status is Status.DONE
    eventually(lambda: len(place.processes("sleep")) == 2)
    rig.clear()
    place = handler(rig, handled, "behind", isolation="fork")
    for _ in range(2):
        assert place.call([])[0].status is Status.DONE
    assert place.processes("sleep") == []


@pytest.mark.parametrize(
    ("entry", "says"),
    [("hello.missing", "missing"), ("nowhere.main", "nowhere"), ("main", "main")],
)
def test_an_entry_that_is_not_there(rig: Rig, handled: Language, entry: str, says: str) -> None:
    broken = Place(rig, handled, {handled.module: handled.handlers}, entry=entry).open()
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.FUNCTION, "entry_not_found")
    assert says in broken.reason.message
