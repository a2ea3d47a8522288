"""The zygote and the loop over the fake driver: real forks, real sockets, real deaths."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from miniworker.processes import descendants
from tests.conftest import children, eventually
from tests.miniworker.rig import Mini, Rig, freeze, gone, is_zombie, spec
from wire import jobs
from wire.models import Fault, Reason, Status


@pytest.fixture
def fake() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


def ready(rig: Rig) -> Mini:
    mini = rig.spawn("fake")
    assert isinstance(mini.specialise(spec(), "nowhere"), jobs.Ready)
    return mini


def test_from_spawn_to_stop_nothing_is_left(fake: Rig) -> None:
    mini = ready(fake)
    outcome, result, _, _ = mini.call(b'{"a": 1}')
    assert (outcome.status, result) == (Status.DONE, b'{"a": 1}')
    assert outcome.miniworker == mini.name
    mini.stop()
    assert not (fake.cwd / "run" / mini.name).exists()
    gone(mini.pid)


def test_it_is_what_it_says(fake: Rig) -> None:
    mini = ready(fake)
    assert os.getsid(mini.pid) == mini.pid
    assert Path(f"/proc/{mini.pid}/stat").read_text().rpartition(")")[2].split()[1] == str(
        fake.zygote.pid
    )
    links = [str(entry.readlink()) for entry in Path(f"/proc/{mini.pid}/fd").iterdir()]
    ours = f"socket:[{os.fstat(fake.socket.fileno()).st_ino}]"
    assert ours not in links


def test_calls_ahead_run_in_order_and_one_at_a_time(fake: Rig) -> None:
    mini = ready(fake)
    for call in range(1, 21):
        mini.job(call, b"%d" % call)
    seen = []
    for _ in range(20):
        message, payload = mini.recv()
        seen.append((message.call, payload))
    assert seen == [(n, b"%d" % n) for n in range(1, 21)]


def test_large_params_come_back_whole(fake: Rig) -> None:
    mini = ready(fake)
    params = os.urandom(6 << 20)
    outcome, result, _, _ = mini.call(params)
    assert outcome.status is Status.DONE
    assert result == params


def test_timeout_keeps_the_log_and_the_sandbox(fake: Rig) -> None:
    mini = ready(fake)
    outcome, _, _, log = mini.call(b'{"sleep_s": 60, "stderr": "so far"}', timeout_ms=100)
    assert (outcome.status, log) == (Status.TIMEOUT, "so far")
    assert mini.call()[0].status is Status.DONE


def test_a_deaf_agent_is_killed_and_what_waits_is_handed_back(fake: Rig) -> None:
    mini = ready(fake)
    mini.job(1, b'{"deaf": true}', 100)
    mini.job(2)
    assert mini.done()[0].status is Status.TIMEOUT
    assert mini.recv()[0] == jobs.Returned(call=2, attempt=1)
    assert isinstance(mini.recv()[0], jobs.Broken)
    assert fake.exit_of(mini.name).status == 0


def test_a_heartbeat_while_a_call_runs(fake: Rig) -> None:
    mini = ready(fake)
    mini.job(5, b'{"sleep_s": 1.2}')
    assert fake.recv(mini.route)[0] == jobs.Heartbeat(call=5, attempt=1)
    assert mini.done()[0].status is Status.DONE


@pytest.mark.parametrize(
    ("rule", "status", "code"),
    [("die", Status.LOST, "sandbox_lost"), ("garble", Status.FAILED, "protocol_violation")],
)
def test_a_lost_or_hostile_sandbox(fake: Rig, rule: str, status: Status, code: str) -> None:
    mini = ready(fake)
    # Together: what comes after the end of the sandbox is not read any more.
    mini.pack_of_jobs(b'{"%s": true}' % rule.encode(), b"{}")
    outcome = mini.done()[0]
    assert outcome.reason is not None
    assert (outcome.status, outcome.reason.code) == (status, code)
    assert mini.recv()[0] == jobs.Returned(call=2, attempt=1)
    assert isinstance(mini.recv()[0], jobs.Broken)
    assert fake.exit_of(mini.name).status == 0


def test_an_answer_before_the_end_of_its_sandbox_counts(fake: Rig) -> None:
    """Whichever connection is seen to break first."""
    mini = ready(fake)
    (agent,) = descendants(mini.pid)
    freeze(agent)
    mini.job(1, b'{"last": true}')
    mini.job(2)
    # The agent has the first one.
    assert fake.recv(mini.route)[0] == jobs.Heartbeat(call=1, attempt=1)
    freeze(mini.pid)
    os.kill(agent, signal.SIGCONT)
    eventually(lambda: is_zombie(agent))
    os.kill(mini.pid, signal.SIGCONT)
    outcome, result, *_ = mini.done()
    assert (outcome.status, result) == (Status.DONE, b'{"last": true}')
    assert mini.recv()[0] == jobs.Returned(call=2, attempt=1)
    assert isinstance(mini.recv()[0], jobs.Broken)
    assert fake.exit_of(mini.name).status == 0


def test_a_recall_returns_what_waits(fake: Rig) -> None:
    mini = ready(fake)
    mini.job(1, b'{"sleep_s": 0.3}')
    mini.job(2)
    mini.job(3)
    mini.send(jobs.Recall())
    assert [mini.recv()[0] for _ in range(2)] == [
        jobs.Returned(call=2, attempt=1),
        jobs.Returned(call=3, attempt=1),
    ]
    assert mini.done()[0].status is Status.DONE
    assert mini.call()[0].status is Status.DONE


def test_the_zygote_knows_what_a_killed_miniworker_had_handed_over(fake: Rig) -> None:
    mini = ready(fake)
    assert mini.call()[0].status is Status.DONE
    mini.job(2, b'{"sleep_s": 60}')
    mini.job(3)
    mini.job(4)
    # The answer to the cancel says that all before it was read.
    mini.send(jobs.Cancel(call=4, attempt=1, reason=Reason(code="cancelled", message="no")))
    assert mini.recv()[0] == jobs.Returned(call=4, attempt=1)
    os.kill(mini.pid, signal.SIGKILL)
    exited = fake.exit_of(mini.name)
    assert (exited.status, exited.handed) == (-signal.SIGKILL, 2)


def test_the_time_of_loading_is_part_of_the_whole(fake: Rig) -> None:
    said = fake.spawn("fake").specialise(spec(), "nowhere")
    assert isinstance(said, jobs.Ready)
    assert 0 < said.load_ms <= said.took_ms


def test_cancel(fake: Rig) -> None:
    mini = ready(fake)
    why = Reason(code="cancelled", message="by its caller")
    mini.job(1, b'{"sleep_s": 60}')
    mini.job(2)
    mini.send(jobs.Cancel(call=2, attempt=1, reason=why))
    assert mini.recv()[0] == jobs.Returned(call=2, attempt=1)
    mini.send(jobs.Cancel(call=1, attempt=1, reason=why))
    outcome = mini.done()[0]
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, why)
    assert mini.call()[0].status is Status.DONE


def test_build_and_its_failure(fake: Rig) -> None:
    for command, reason in (("true", None), ("fail", "install_failed")):
        mini = fake.spawn("fake")
        order = spec(runtime={"path": "nowhere", "dependencies": command})
        mini.send(jobs.Build(spec=order, bundle="nowhere", timeout_ms=5000))
        built = mini.recv()[0]
        assert isinstance(built, jobs.Built)
        assert (built.reason.code if built.reason else None) == reason
        assert built.fault is (Fault.FUNCTION if reason else Fault.NONE)
        mini.stop()


def test_broken_by_the_function(fake: Rig) -> None:
    mini = fake.spawn("fake")
    broken = mini.specialise(spec(entry="missing"), "nowhere")
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.FUNCTION, "entry_not_found")
    assert fake.exit_of(mini.name).status == 0


def test_a_job_too_early_is_handed_back(fake: Rig) -> None:
    mini = fake.spawn("fake")
    mini.job(1)
    assert mini.recv()[0] == jobs.Returned(call=1, attempt=1)


def test_garbage_from_the_worker_is_dropped(fake: Rig) -> None:
    mini = ready(fake)
    for frames in ([b""], [b"x"] * 7, [b"\xa5\x01\xff", b"", b""], [os.urandom(50)] * 3):
        fake.router.send_multipart([mini.route, *frames])
    # It tells how many, for the worker's metrics: nobody could scrape a miniworker.
    assert [mini.recv()[0] for _ in range(4)] == [jobs.Dropped(count=1)] * 4
    fake.socket.send(b"no order")
    fake.socket.send(b'{"type": "Kill"}')
    assert mini.call()[0].status is Status.DONE
    assert ready(fake).call()[0].status is Status.DONE


def test_kill_ends_the_sandbox_too_and_removes_the_folder(fake: Rig) -> None:
    mini = ready(fake)
    ours = children() - {fake.zygote.pid}
    assert len(ours) == 2
    fake.socket.send(jobs.encode_order(jobs.Kill(miniworker=mini.name)))
    assert fake.exit_of(mini.name).status == -signal.SIGKILL
    assert not children() & ours
    eventually(lambda: not (fake.cwd / "run" / mini.name).exists())


@pytest.mark.parametrize("how", ["eof", signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_zygote(how: str | int) -> None:
    rig = Rig()
    minis = [ready(rig) for _ in range(3)]
    for mini in minis:
        mini.job(1, b'{"deaf": true}')
    before = children()
    assert len(before) == 7
    if isinstance(how, int):
        os.kill(rig.zygote.pid, how)
    else:
        rig.socket.close()
    eventually(lambda: not children() & before)
    with rig:
        rig.zygote.wait()
        rig.zygote.returncode = 0


def test_ctrl_c_is_for_the_worker(fake: Rig) -> None:
    ready(fake)
    os.kill(fake.zygote.pid, signal.SIGINT)
    assert ready(fake).call()[0].status is Status.DONE


def test_many_at_once(fake: Rig) -> None:
    minis = [ready(fake) for _ in range(8)]
    for mini in minis:
        mini.job(1, struct.pack(">I", mini.pid))
    for mini in minis:
        assert mini.done()[1] == struct.pack(">I", mini.pid)
    for mini in minis:
        mini.stop()
