"""``skep up`` as a user has it: deaths of every process, two at once, odd folders, its end."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from skep import Client, SkepError
from tests.conftest import children, eventually
from tests.e2e.harness import (
    Up,
    assert_gone,
    register_dice,
    roll,
    skep,
    sockets_in,
    up,
)


def test_a_folder_deep_and_private_with_other_things_in_it(tmp_path: Path) -> None:
    before = children()
    data = tmp_path / ("deep" * 30) / ("deeper" * 20)
    data.mkdir(parents=True)
    data.chmod(0o700)
    (data / "letter.txt").write_text("mine")
    (data / "json.py").write_text("raise SystemExit('a stranger was imported')")
    with up(data) as hive, hive.client() as client:
        assert len(os.fsencode(data)) > 108
        register_dice(client)
        assert roll(client)["status"] == "DONE"
        assert client.workers()[0]["state"] == "up"
        printed = hive.printed()
        for fact in (hive.url, str(data), "sandbox", "process:", "Ctrl-C", "runtime register "):
            assert fact in printed
        assert hive.end(signal.SIGINT) == 0
    assert_gone(data, before)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert (data / "letter.txt").read_text() == "mine"


def test_what_was_stored_is_there_the_next_time_and_fresh_forgets(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with up(data) as hive, hive.client() as client:
        register_dice(client)
        call = roll(client)
        assert hive.end() == 0
    with up(data) as hive, hive.client() as client:
        assert client.functions() == ["dice"]
        kept = client.call(call["callNum"])
        assert (kept["status"], kept["result"]) == ("DONE", call["result"])
        assert roll(client)["callNum"] > call["callNum"]
        assert hive.end() == 0
    with up(data, "--redeploy", "fresh") as hive, hive.client() as client:
        assert client.functions() == []
        register_dice(client)
        os.kill(hive.child("dbnode"), signal.SIGKILL)
        assert roll(client)["status"] == "DONE"
        assert client.functions() == ["dice"], "a restarted child must not forget"


def test_a_sqlite_store_is_kept_and_no_other_child_hears_of_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    file = tmp_path / "calls.sqlite"
    for life in (1, 2):
        with up(data, "--store", f"sqlite:///{file}") as hive, hive.client() as client:
            if life == 1:
                register_dice(client)
            call = roll(client)
            assert call["status"] == "DONE"
            assert len(client.calls()) == life
            for pid in children():
                process = Path("/proc", str(pid))
                environment = (process / "environ").read_bytes()
                is_dbnode = b"dbnode" in (process / "cmdline").read_bytes()
                assert is_dbnode or b"calls.sqlite" not in environment
            assert hive.end() == 0
    assert not (data / "db").exists()
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("victim", ["dbnode", "api", "worker"])
def test_any_child_may_be_killed(tmp_path: Path, victim: str) -> None:
    before = children()
    data = tmp_path / "data"
    with up(data) as hive, hive.client() as client:
        register_dice(client)
        first = roll(client)
        pid = hive.child(victim)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: hive.child(victim) not in (0, pid))
        # A call STARTed on a dead worker, before its death is known, is LOST: it may have run.
        eventually(lambda: _worker_pids(client) == [hive.child("worker")])
        again = roll(client)
        assert (first["status"], again["status"]) == ("DONE", "DONE")
        assert client.call(first["callNum"])["result"] == first["result"]
        eventually(lambda: "killed by SIGKILL; starting again" in hive.printed())
        assert hive.end() == 0
    assert_gone(data, before)


def test_killed_itself_nothing_of_it_stays_and_the_next_one_goes_on(tmp_path: Path) -> None:
    before = children()
    data = tmp_path / "data"
    with up(data, "--workers", "2") as hive, hive.client() as client:
        register_dice(client)
        call = roll(client)
        assert hive.end(signal.SIGKILL) == -signal.SIGKILL
    # At once, while the old processes may still be stopping: it waits for them.
    with up(data) as hive, hive.client() as client:
        assert client.call(call["callNum"])["result"] == call["result"]
        assert roll(client)["status"] == "DONE"
        hive.end(signal.SIGKILL)
    assert_gone(data, before)


def test_two_do_not_disturb_each_other_but_one_folder_has_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with up(one) as first, up(two) as second:
        refused = skep("up", "--data", str(one), "--port", "0")
        assert refused.returncode == 1
        assert f"process {first.pid}, {first.url}" in refused.stderr
        assert "--data" in refused.stderr
        port = first.url.rpartition(":")[2]
        taken = skep("up", "--data", str(tmp_path / "three"), "--port", port)
        assert taken.returncode == 1
        assert "already in use" in taken.stderr
        with first.client() as a, second.client() as b:
            register_dice(a)
            assert b.functions() == []
            register_dice(b)
            assert roll(b)["status"] == "DONE"
            assert second.end() == 0
            assert roll(a)["status"] == "DONE"
        assert first.end() == 0
    assert not sockets_in(one) + sockets_in(two)


def test_ctrl_c_twice_hurries_and_still_leaves_nothing(tmp_path: Path) -> None:
    before = children()
    data = tmp_path / "data"
    with up(data) as hive, hive.client() as client:
        register_dice(client)
        roll(client)
        os.kill(hive.child("api"), signal.SIGSTOP)
        hive.process.send_signal(signal.SIGINT)
        eventually(lambda: "stopping (again Ctrl-C" in hive.printed())
        assert hive.end(signal.SIGINT) == 0
    assert_gone(data, before)


@pytest.mark.parametrize("said", ["dbnode   ready", "api      ready"])
def test_ctrl_c_while_it_starts(tmp_path: Path, said: str) -> None:
    before = children()
    hive = Up(tmp_path / "data")
    try:
        eventually(lambda: said in hive.printed())
        assert hive.end(signal.SIGINT) == 0
    finally:
        hive.close()
    assert_gone(hive.data, before)


def test_a_token_is_asked_for_and_is_on_no_command_line(tmp_path: Path) -> None:
    with up(tmp_path / "data", "--token", "s3cret") as hive:
        refused = skep("function", "list", "--url", hive.url)
        assert refused.returncode == 2
        assert "hint" in refused.stderr
        assert skep("function", "list", "--url", hive.url, "--token", "s3cret").returncode == 0
        for module in ("dbnode", "api", "worker"):
            command = Path(f"/proc/{hive.child(module)}/cmdline").read_bytes()
            assert b"s3cret" not in command
        assert hive.end() == 0


def _worker_pids(client: Client) -> list[int]:
    try:
        return [worker["pid"] for worker in client.workers() if worker["state"] == "up"]
    except SkepError:
        return []
