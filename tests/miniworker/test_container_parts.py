"""What of the Docker driver decides without an engine, by tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from miniworker import cgroups, complaints, creation, passing, passwd
from miniworker.origins import NAME, Origins
from miniworker.sandbox import Plan
from miniworker.sharing import host_path
from miniworker.sweeping import Whose
from miniworker.underway import Underway
from tests.miniworker.rig import spec
from wire import inside
from wire.inside import STAND_IN
from wire.models import Fault

MIB = 1 << 20


def order(
    *,
    build: bool = False,
    network: str = "",
    ways: creation.Ways | None = None,
    **function: Any,
) -> creation.Order:
    return creation.Order(
        spec=spec(**function),
        image="pythonruntime",
        build=build,
        program=creation.program(),
        network=network,
        user=(65532, 65533),
        volumes=("/data",),
        labels={"skep": "i"},
        env=inside.environment("/ws", {"PATH": "/opt/bin:/bin", "LANG": "C"}),
        ways=ways
        or creation.Ways(
            socket="/skep/sock/agent.sock",
            shown=(("/host/bundles", creation.BUNDLES),),
            writable=(("/host/bundle", "/ws"), ("/host/tmp", "/tmp")) if build else (),
        ),
    )


def test_a_container_has_the_least_that_a_call_needs() -> None:
    body = creation.body(order(memory=100, cpu=0.5))
    host = body["HostConfig"]
    assert body["User"] == "65532:65533"
    assert body["NetworkDisabled"] is True
    assert "NetworkMode" not in host
    assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Memory"], host["MemorySwap"]) == (100 * MIB, 100 * MIB)
    assert (host["PidsLimit"], host["CpuShares"], host["NanoCpus"]) == (256, 256, 500_000_000)
    assert host["Tmpfs"]["/ws"].endswith(f"size={50 * MIB},mode=0755,uid=65532,gid=65533")
    assert host["Tmpfs"]["/tmp"].endswith(f"size={50 * MIB},mode=1777")
    # A volume of the image would be a folder of the host.
    assert host["Tmpfs"]["/data"].startswith("rw,exec,nosuid,nodev,size=")
    assert [m["ReadOnly"] for m in host["Mounts"]] == [True]
    assert "AutoRemove" not in host
    # As in a call: else what an interpreter reads at its start would differ.
    assert "LANG=C" in body["Env"]
    assert "PATH=/ws/.packages/bin:/opt/bin:/bin" in body["Env"]


def test_by_stdio_a_sandbox_has_one_volume_of_its_own_and_nothing_of_the_host() -> None:
    ways = creation.Ways(socket="-", attached=True)
    body = creation.body(order(ways=ways, memory=100))
    host = body["HostConfig"]
    assert body["Entrypoint"][-1] == "-"
    assert (body["OpenStdin"], body["StdinOnce"], body["Tty"]) == (True, True, False)
    assert (host["ReadonlyRootfs"], host["LogConfig"]["Type"]) == (True, "none")
    (mount,) = host["Mounts"]
    assert (mount["Type"], mount["Target"], mount.get("Source")) == ("volume", "/skep", None)
    assert (host["CapDrop"], body["NetworkDisabled"]) == (["ALL"], True)
    host = creation.body(order(ways=ways, build=True, network="bridge"))["HostConfig"]
    assert (host["ReadonlyRootfs"], host["Mounts"], host["CapDrop"]) == (False, [], ["ALL"])
    assert set(host["Tmpfs"]) == {"/data"}


def test_a_build_has_the_network_room_and_a_bundle_that_it_may_change() -> None:
    body = creation.body(order(build=True, network="bridge", memory=8))
    host = body["HostConfig"]
    assert (body["NetworkDisabled"], host["NetworkMode"]) == (False, "bridge")
    assert host["Memory"] == 4096 * MIB
    assert {m["Target"]: m["ReadOnly"] for m in host["Mounts"]} == {
        creation.BUNDLES: True, "/ws": False, "/tmp": False,
    }  # fmt: skip
    assert set(host["Tmpfs"]) == {"/data"}
    assert host["ReadonlyRootfs"] is True


def test_an_interpreter_starts_in_whatever_memory_a_function_says() -> None:
    assert creation.memory_of(order(memory=4)) == 32 * MIB


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/ws", "/ws"),
        ("/ws/", "/ws"),
        ("//ws/../app", "/app"),
        ("/usr/src/app", "/usr/src/app"),
        ("/var/qinling/packages", "/var/qinling/packages"),
        ("/usr", STAND_IN),
        ("/tmp", STAND_IN),
        ("/", STAND_IN),
        ("relative", STAND_IN),
        ("/proc/self", STAND_IN),
        ("/skep/sock", STAND_IN),
        ("/x/../..", STAND_IN),
    ],
)
def test_a_path_that_would_break_the_image_is_stood_in_for(path: str, place: str) -> None:
    assert inside.path_inside(path) == place


@pytest.mark.parametrize(
    ("said", "fault", "code", "word"),
    [
        ("No such image: nope:latest", Fault.FUNCTION, "image_unavailable", "docker pull nope"),
        ("invalid reference format", Fault.FUNCTION, "image_unavailable", "docker pull"),
        ('exec: "python3": executable file not found in $PATH: unknown', Fault.FUNCTION,
         "command_not_found", "has no python3"),
        ("standard_init_linux.go: exec format error", Fault.FUNCTION, "image_unavailable",
         "architecture"),
        ("unable to find user bob: no matching entries", Fault.FUNCTION, "image_unavailable",
         "user"),
        ("mkdir /var/lib/docker/x: no space left on device", Fault.NODE, "no_space", "df"),
        ("invalid mount config: bind source path does not exist: /x", Fault.NODE, "no_sandbox",
         "--data"),
        ("network nowhere not found", Fault.NODE, "no_sandbox", "SKEP_DOCKER_NETWORK"),
        ("something new", Fault.NODE, "no_sandbox", "something new"),
    ],
)  # fmt: skip
def test_whose_fault_a_refusal_is(said: str, fault: Fault, code: str, word: str) -> None:
    error = complaints.refused(said, "nope", "python3")
    assert (error.fault, error.reason.code) == (fault, code)
    assert word in error.reason.message


@pytest.mark.parametrize(
    ("exit_code", "out_of", "fault", "code"),
    [
        (1, None, Fault.FUNCTION, "image_unavailable"),
        (127, None, Fault.FUNCTION, "command_not_found"),
        (137, None, Fault.NODE, "no_sandbox"),
        (137, 16, Fault.FUNCTION, "oom"),
        (0, None, Fault.NODE, "no_sandbox"),
    ],
)
def test_whose_fault_an_early_end_is(
    exit_code: int, out_of: int | None, fault: Fault, code: str
) -> None:
    error = complaints.ended(exit_code, "last words", "image", out_of=out_of)
    assert (error.fault, error.reason.code) == (fault, code)
    assert "last words" in error.reason.message
    told = complaints.ended(1, "exec /skep/agents/x: no such file", "image", out_of=None)
    assert told.reason.code == "command_not_found"
    assert ("memory of 16 MiB" in error.reason.message) == (code == "oom")


PASSWD = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1001::/:\n"
GROUP = "root:x:0:\nstaff:x:50:bob\n"


@pytest.mark.parametrize(
    ("user", "numbers"),
    [
        ("bob", (1000, 1001)),
        ("1000", (1000, 1001)),
        ("2000", (2000, 0)),
        ("bob:staff", (1000, 50)),
        ("bob:77", (1000, 77)),
        ("5:6", (5, 6)),
        ("root", (0, 0)),
        ("nobody-here", None),
        ("bob:no-such-group", None),
    ],
)
def test_the_numbers_of_an_images_user(user: str, numbers: tuple[int, int] | None) -> None:
    assert passwd.resolve(user, PASSWD, GROUP) == numbers


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/data/nodes/n1", "/var/lib/docker/volumes/v/_data/nodes/n1"),
        ("/data", "/var/lib/docker/volumes/v/_data"),
        ("/data/inner/x", "/srv/x"),
        ("/database", "/database"),
        ("/else", "/else"),
    ],
)
def test_a_worker_in_a_container_knows_where_its_folders_are(path: str, seen: str) -> None:
    mounts = {"/data": "/var/lib/docker/volumes/v/_data", "/data/inner": "/srv/"}
    assert host_path(path, mounts) == seen
    assert host_path(path, {}) == path


def test_what_is_left_is_what_nobody_can_be_using() -> None:
    own = {"skep.boot": "b", "skep.parent": "7", "skep.miniworker": "m1"}
    living = Whose(parent=7)
    assert not living.is_left(own, "b")
    assert Whose(parent=7, dead=("m1",)).is_left(own, "b")
    assert not Whose(parent=7, dead=("m2",)).is_left(own, "b")
    assert living.is_left(own, "another boot")
    assert Whose(parent=8).is_left(own, "b")
    assert living.is_left({}, "b")
    # At the end of a node: all of it, but another life's only while its lock is held.
    assert Whose(worker=os.getppid()).is_left(own, "b")
    assert Whose(worker=os.getppid()).is_left(own, "another boot")
    assert Whose(worker=os.getpid()).is_left(own, "b")
    assert not Whose(worker=os.getpid()).is_left(own, "another boot")


def test_what_was_asked_for_is_known_until_it_is_answered(tmp_path: Path) -> None:
    underway = Underway(tmp_path)
    assert underway.of(bool) == []
    for name in ("a", "b"):
        underway.begin(name, {"skep.miniworker": name})
    assert underway.of(lambda labels: labels["skep.miniworker"] != "b") == ["a"]
    underway.end("a")
    underway.end("a")
    assert underway.of(bool) == ["b"]


def test_the_kernels_count_is_read_under_both_cgroups() -> None:
    v1 = b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
    v2 = b"low 0\nhigh 0\nmax 5\noom 2\noom_kill 1\noom_group_kill 0\n"
    assert (cgroups.parse(v1), cgroups.parse(v2), cgroups.parse(b"")) == (3, 1, 0)
    lines = ["9:memory:/docker/abc", "1:name=systemd:/docker/abc", "0::/system.slice/x.scope"]
    assert cgroups.file_of("1", lines) == "/sys/fs/cgroup/memory/docker/abc/memory.oom_control"
    assert cgroups.file_of("2", lines) == "/sys/fs/cgroup/system.slice/x.scope/memory.events"
    assert cgroups.file_of("1", []) == ""


def test_what_a_build_is_given_and_which_files_that_names(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("x")
    env = {"PIP_CERT": str(file), "https_proxy": "http://p:1"}
    plan = Plan(spec=spec(), bundle=tmp_path, folder=tmp_path, build=True, env=env)
    given = passing.to_build(plan, "/skep/sock")
    assert given == {**env, "SKEP_BUILD_LOG": "/skep/sock/printed"}
    assert passing.files_named(plan.env) == (str(file),)
    assert passing.files_named({"PIP_CERT": str(tmp_path / "missing")}) == ()
    # Calls get none of it, and have no pipe.
    calls = Plan(spec=spec(), bundle=tmp_path, folder=tmp_path, env=env)
    assert passing.to_build(calls, "/skep/sock") == {}


def test_a_bundle_knows_its_image_by_its_name_or_by_its_packages(tmp_path: Path) -> None:
    origins = Origins(tmp_path / "notes")
    built, shares, plain = (tmp_path / name for name in ("built", "shares", "plain"))
    for bundle in (built, shares, plain):
        (bundle / ".packages").mkdir(parents=True)
    origins.note(built, "sha256:1")
    (shares / ".packages" / NAME).hardlink_to(built / ".packages" / NAME)
    assert origins.is_of(built, "sha256:1") and origins.is_of(shares, "sha256:1")
    assert not origins.is_of(built, "sha256:2")
    assert not origins.is_of(shares, "sha256:2")
    # What nothing was installed in fits any.
    assert origins.is_of(plain, "sha256:2") and origins.is_of(tmp_path / "none", "sha256:2")


def test_no_trap_of_an_installer_makes_a_note_elsewhere(tmp_path: Path) -> None:
    origins, bundle, elsewhere = Origins(tmp_path / "n"), tmp_path / "b", tmp_path / "else"
    bundle.mkdir()
    elsewhere.mkdir()
    (bundle / ".packages").symlink_to(elsewhere)
    origins.note(bundle, "sha256:1")
    assert list(elsewhere.iterdir()) == []
    assert origins.is_of(bundle, "sha256:1")
    (bundle / ".packages").unlink()
    (bundle / ".packages").mkdir()
    victim = elsewhere / "victim"
    victim.write_text("whole")
    (bundle / ".packages" / NAME).symlink_to(victim)
    origins.note(bundle, "sha256:1")
    assert victim.read_text() == "whole"
    (bundle / ".packages" / NAME).unlink()
    os.mkfifo(bundle / ".packages" / NAME)
    (tmp_path / "n" / "origins" / "b").unlink()
    assert not origins.is_of(bundle, "sha256:1")


def test_notes_of_bundles_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    origins, bundles = Origins(tmp_path), tmp_path / "bundles"
    origins.forget_others(bundles)
    for name in ("kept", "gone"):
        (bundles / name).mkdir(parents=True)
        origins.note(bundles / name, "sha256:1")
    (bundles / "gone").rmdir()
    origins.forget_others(bundles)
    assert [path.name for path in (tmp_path / "origins").iterdir()] == ["kept"]
