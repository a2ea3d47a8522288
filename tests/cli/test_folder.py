"""The data folder: its lock, its sockets' folder, its logs, the command lines in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.folder import LOG_LIMIT_BYTES, Folder, FolderInUse, default_folder
from cli.life import SOURCE_ROOT, environment
from cli.plan import Settings, UpPlan


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    first, second = Folder(tmp_path), Folder(tmp_path)
    first.take()
    first.describe(pid=os.getpid(), url="http://127.0.0.1:3000")
    with pytest.raises(FolderInUse, match=rf"process {os.getpid()}, http://127.0.0.1:3000"):
        second.take()
    first.release()
    second.take()
    second.release()


def test_the_lock_lives_as_long_as_a_process_that_inherited_it(tmp_path: Path) -> None:
    first, second = Folder(tmp_path), Folder(tmp_path)
    first.take()
    # Nobody has this pid: the holder is dead, what it started is not yet.
    first.describe(pid=2**22 + 1)
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[first.lock_fd]
    )
    first.release()
    told: list[str] = []
    with pytest.raises(FolderInUse):
        second.take(limit_s=0.1, on_wait=lambda: told.append("waiting"))
    assert told == ["waiting"]
    child.communicate(b"\n")
    second.take()
    second.release()


def test_strangers_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    (tmp_path / "run" / "db").touch()
    (tmp_path / "run" / "node1").mkdir()
    (tmp_path / "run" / "node1" / "socket").touch()
    folder = Folder(tmp_path)
    folder.take()
    folder.clear_run(["db", "api", "node1"])
    folder.release()
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["mine"]


def test_a_large_log_is_moved_aside_and_its_writer_goes_on(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.take()
    log = folder.log_of("api")
    with log.open() as file:
        file.write(b"x" * LOG_LIMIT_BYTES + b"\nlast\n")
        file.flush()
        assert log.last_lines(1) == ["last"]
        log.rotate()
        file.write(b"first\nhal")
        file.flush()
        assert log.path.read_bytes() == b"first\nhal"
        assert log.fresh_lines() == ["first"]
        file.write(b"f\n")
        file.flush()
        assert log.fresh_lines() == ["half"]
    assert (tmp_path / "logs" / "api.log.1").stat().st_size > LOG_LIMIT_BYTES
    folder.release()


def test_the_default_folder_follows_the_desktop_convention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/some/where")
    assert default_folder() == Path("/some/where/skep")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/bee")
    assert default_folder() == Path("/home/bee/.local/share/skep")


def test_only_the_first_dbnode_forgets() -> None:
    plan = UpPlan(Settings(redeploy="fresh"))
    assert "fresh" in plan.command("dbnode", first=True)
    assert "fresh" not in plan.command("dbnode", first=False)


def test_a_restarted_api_listens_where_it_did() -> None:
    plan = UpPlan(Settings(port=0, workers=2, slots=3, idle=1.5, insecure=True))
    assert plan.stages == (("dbnode",), ("api",), ("node1", "node2"))
    plan.note("api", {"url": "http://127.0.0.1:4711"})
    plan.note("node1", {"url": "http://127.0.0.1:1"})
    api = plan.command("api", first=False)
    assert api[api.index("--port") + 1] == "4711"
    assert "--insecure" in api
    assert plan.url == "http://127.0.0.1:4711"
    worker = plan.command("node2", first=True)
    assert worker[worker.index("--slots") + 1] == "3"
    assert worker[worker.index("--idle") + 1] == "1.5"


def test_the_sandbox_is_decided_once_for_all_lives_of_all_workers() -> None:
    plan = UpPlan(Settings(workers=2))
    assert "auto" in plan.command("node1", first=True)
    plan.note("api", {"url": "http://127.0.0.1:1", "sandbox": "stranger"})
    plan.note("node2", {"sandbox": "docker"})
    plan.note("node1", {"sandbox": "process"})
    for worker in ("node1", "node2"):
        command = plan.command(worker, first=False)
        assert command[command.index("--sandbox") + 1] == "docker"


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1")]
)
def test_the_url_of_all_addresses_is_one_that_can_be_used(host: str, url: str) -> None:
    assert UpPlan(Settings(host=host, port=1)).url == url


def test_children_find_our_modules_and_none_by_a_relative_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "lib::/opt/lib")
    monkeypatch.setenv("SKEP_NAME", "mine")
    made = environment("secret")
    assert made["PYTHONPATH"].split(":") == [
        str(SOURCE_ROOT),
        str(Path.cwd() / "lib"),
        "/opt/lib",
    ]
    assert made["SKEP_TOKEN"] == "secret"
    assert "SKEP_NAME" not in made
