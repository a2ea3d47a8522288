"""Builds by real pieces: their output while they run, what they are given, what they try."""

from __future__ import annotations

from pathlib import Path

from miniworker import printed
from tests.miniworker.rig import Mini, Rig, spec
from wire import jobs
from wire.models import Fault


def begin(
    rig: Rig, command: str, *, timeout_ms: int = 60_000, env: dict[str, str] | None = None
) -> tuple[Mini, Path]:
    bundle = rig.bundle({})
    mini = rig.spawn()
    of = spec(runtime={"dependencies": command})
    order = jobs.Build(spec=of, bundle=str(bundle), timeout_ms=timeout_ms, env=env or {})
    mini.send(order)
    return mini, bundle


def run(
    rig: Rig, command: str, *, timeout_ms: int = 60_000, env: dict[str, str] | None = None
) -> tuple[jobs.Built, str]:
    mini, _ = begin(rig, command, timeout_ms=timeout_ms, env=env)
    answer = mini.built()
    mini.stop()
    return answer


def test_output_is_shown_while_it_runs(rig: Rig) -> None:
    command = "echo first; until [ -e go ]; do sleep 0.02; done; echo second >&2; echo third"
    mini, bundle = begin(rig, command)
    message, _ = mini.recv()
    assert message == jobs.Printed(text="first\n")
    # Only now can it go on: it was shown before it ended.
    (bundle / "go").touch()
    built, shown = mini.built()
    assert built.reason is None
    assert shown == "second\nthird\n"
    assert built.log == "first\nsecond\nthird\n"


def test_a_failure_says_how_it_ended_and_what_it_printed_last(rig: Rig) -> None:
    built, shown = run(rig, "seq 1 100; echo unfinished | tr -d '\\n'; exit 7")
    assert built.reason is not None
    assert (built.fault, built.reason.code) == (Fault.FUNCTION, "install_failed")
    assert "the code 7" in built.reason.message
    assert built.reason.message.endswith("\n99\n100\nunfinished")
    assert "\n80\n" not in built.reason.message
    assert shown == built.log


def test_it_ends_though_something_goes_on_printing(rig: Rig) -> None:
    built, shown = run(rig, "(while :; do echo noise; done) & echo it; exit 3")
    assert built.reason is not None
    assert "the code 3" in built.reason.message
    assert len(shown) <= printed.LIVE_CHARS + len(printed.ENOUGH)


def test_a_flood_is_bounded_and_timed_out(rig: Rig) -> None:
    built, shown = run(rig, "yes 0123456789", timeout_ms=1500)
    assert built.reason is not None
    assert built.reason.code == "install_failed"
    assert "longer than 1.5 s" in built.reason.message
    assert len(shown) <= printed.LIVE_CHARS + len(printed.ENOUGH)
    assert len(built.log) <= printed.TAIL_CHARS


def test_closed_descriptors_do_no_harm(rig: Rig) -> None:
    built, shown = run(rig, "echo before; exec >&- 2>&-; echo after; exit 4")
    assert built.reason is not None
    assert shown == "before\n"
    assert built.reason.message.endswith("before")


def test_the_pipe_is_not_the_installers_to_read_or_to_know(rig: Rig) -> None:
    find = "for f in /skep/sock/printed ../sock/printed; do [ -r $f ] && echo found $f; done"
    built, shown = run(rig, f"env | grep SKEP_BUILD; {find}; true")
    assert built.reason is None
    assert shown == ""


def test_a_build_has_the_settings_and_sees_their_files(rig: Rig) -> None:
    # In /tmp, where a sandbox has a folder of its own.
    file = rig.temporary / "ca.pem"
    file.write_text("the authorities\n")
    file.chmod(0o644)
    env = {"PIP_CERT": str(file), "PIP_RETRIES": "7"}
    command = 'echo $PIP_RETRIES; cat "$PIP_CERT"; (echo x >"$PIP_CERT") 2>/dev/null; true'
    built, shown = run(rig, command, env=env)
    assert built.reason is None
    assert shown == "7\nthe authorities\n"
    if rig.settings.get("level") != "rlimits":
        assert file.read_text() == "the authorities\n"


def test_what_the_host_has_of_this_does_not_come_by_itself(rig: Rig) -> None:
    built, shown = run(rig, "env | grep -i -e ^pip_index -e proxy; true")
    assert built.reason is None
    assert shown == ""


def test_no_secret_of_the_settings_is_shown(rig: Rig) -> None:
    env = {"PIP_INDEX_URL": "https://ada:pass%40word@127.0.0.1:1/simple"}
    command = "echo $PIP_INDEX_URL; echo pass@word; echo https://x:y@z.example/; exit 2"
    built, shown = run(rig, command, env=env)
    assert built.reason is not None
    expected = "https://***@127.0.0.1:1/simple\n***\nhttps://***@z.example/"
    assert shown == expected + "\n"
    assert built.reason.message.endswith(expected)
    assert "pass" not in built.log
