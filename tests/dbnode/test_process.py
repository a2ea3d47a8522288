"""The real process: every msgType by plain REQ, kill -9, locks, options, its end."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.dbnode.conftest import NewStore
from tests.dbnode.running import Asker, Refused, end, plain_record, running, start


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["memory", "tinydb", "sqlite", "postgresql"])
def test_every_msg_type(tmp_path: Path, new_store: NewStore, kind: str, packed: bool) -> None:
    with running(tmp_path, "--store", new_store(kind)) as db:

        def ask(msg_type: str, **content: Any) -> Any:
            return db.ask(msg_type, packed=packed, **content)

        pong = ask("ping")
        assert pong["store"] == kind
        epoch = ask("openApi", api="api")["epoch"]
        runtime = {"name": "py", "image": "python:3", "path": "/code"}
        function = {"functionName": "dice", "runtimeName": "py", "env": {"A": "1"}}
        changes = [
            ask("registerRuntime", runtime=runtime),
            ask("registerRuntime", runtime=runtime),
            ask("registerFunction", function=function),
            ask("registerFunction", function={**function, "timeout": 9}),
        ]
        assert [each["change"] for each in changes] == ["created", "same", "created", "changed"]
        assert changes[3]["item"]["function"]["revision"] == 2
        assert changes[3]["item"]["function"]["id"] == changes[2]["item"]["function"]["id"]
        with pytest.raises(Refused, match=r"conflict: .*in use by dice") as refused:
            ask("deleteRuntime", name="py")
        assert refused.value.hint
        assert ask("leaseCalls", api="api", epoch=epoch, count=16) == {"first": 1, "count": 16}
        written = ask("writeCalls", api="api", epoch=epoch, records=[plain_record()])
        assert written == {"acks": [[1, 1]]}
        assert ask("unfinishedCalls", api="api")["records"][0]["call"]["callNum"] == 1
        done = plain_record(1, 2, status="DONE", result="[4]")
        assert ask("writeCalls", api="api", epoch=epoch, records=[done])["acks"] == [[1, 2]]
        got = ask("getCall", callNum=1)["record"]
        assert got["call"]["result"] == "[4]"
        assert got["call"]["params"] == {"roll": "4d6"}
        assert ask("listCalls", order="desc", status="DONE", function="dice", limit=1) == {
            "calls": [got["call"]],
            "more": False,
        }
        assert ask("unfinishedCalls", api="api")["records"] == []
        assert ask("callCounts") == {"counts": {"default/dice": 1}}
        assert ask("returnCalls", api="api", epoch=epoch, first=2, count=15)["returned"]
        assert ask("deleteFunction", name="dice")["change"] == "deleted"
        assert ask("deleteRuntime", name="py")["change"] == "deleted"
        catalogue = ask("readCatalogue", epoch=pong["epoch"], after=3)
        assert [item["deleted"] for item in catalogue["items"]] == [True, True]
        with pytest.raises(Refused, match="unknown_call"):
            ask("getCall", callNum=99)
        ask("openApi", api="api")
        with pytest.raises(Refused, match="stale_epoch"):
            ask("writeCalls", api="api", epoch=epoch, records=[plain_record(1, 3)])


def test_nonsense_is_answered_and_neighbours_are_served(tmp_path: Path) -> None:
    rng = random.Random(11)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    process, endpoint = start(tmp_path, "--store", "memory:")
    try:
        db = Asker(context, endpoint)
        rude = context.socket(zmq.DEALER)
        rude.connect(endpoint)
        for _ in range(300):
            frames = [rng.randbytes(rng.randint(0, 40)) for _ in range(rng.randint(1, 6))]
            rude.send_multipart(rng.choice([frames, [b"", *frames], [b"", b"", *frames]]))
        for _ in range(200):
            frame = rng.choice([b"", b"{", b"\x81"]) + rng.randbytes(rng.randint(0, 60))
            reply = db.raw(frame)
            assert b"bad_request" in reply
            assert (reply[:1] == b"{") == (frame[:1] == b"{")
        assert db.ask("ping")["store"] == "memory"
        rude.close(linger=0)
    finally:
        context.destroy(linger=0)
        end(process)


def test_a_pipelining_dealer_gets_its_answers_in_order(tmp_path: Path) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    process, endpoint = start(tmp_path, "--store", "tinydb:db")
    try:
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.RCVTIMEO, 20_000)
        dealer.connect(endpoint)
        for rev in range(1, 30):
            write = {"api": "api", "epoch": 1, "records": [plain_record(1, rev, node=f"{rev}")]}
            for msg_type, content in (("getCall", {"callNum": 1}), ("nope", {}),
                                      ("writeCalls", write)):  # fmt: skip
                body = json.dumps({"msgType": msg_type, "content": content}).encode()
                dealer.send_multipart([b"", body])
        for rev in range(1, 30):
            got, bad, ack = (json.loads(dealer.recv_multipart()[1]) for _ in range(3))
            assert bad["error"]["code"] == "bad_request"
            assert ack["content"]["acks"] == [[1, rev]]
            if rev == 1:
                assert got["error"]["code"] == "unknown_call"
            else:
                assert got["content"]["record"]["call"]["node"] == f"{rev - 1}"
    finally:
        context.destroy(linger=0)
        end(process)


@pytest.mark.parametrize("kind", ["tinydb", "sqlite", "postgresql"])
def test_one_process_to_a_store(tmp_path: Path, new_store: NewStore, kind: str) -> None:
    store = ("--store", new_store(kind))
    with running(tmp_path, *store) as db:
        db.ask("openApi", api="api")
        with pytest.raises(RuntimeError, match=r"in use by another .*\n.*stop the other"):
            start(tmp_path, *store)
        assert db.ask("ping")


def test_the_kind_alone_is_a_store_in_the_data_folder(tmp_path: Path) -> None:
    for kind, made in (("sqlite", "d/skep.sqlite"), ("tinydb", "d/db/catalogue.json")):
        with running(tmp_path, "--data", "d", "--store", kind) as db:
            assert db.ask("ping")["store"] == kind
        assert (tmp_path / made).stat().st_mode & 0o077 == 0


def test_fresh_forgets_and_leaves_strangers_files(tmp_path: Path) -> None:
    runtime = {"name": "py", "image": "python:3", "path": "/code"}
    with running(tmp_path) as db:
        db.ask("registerRuntime", runtime=runtime)
        db.ask("writeCalls", api="api", epoch=1, records=[plain_record()])
        before = db.ask("ping")["epoch"]
    (tmp_path / "skep-data/db/mine").write_text("mine")
    with running(tmp_path) as db:
        assert len(db.ask("readCatalogue")["items"]) == 1
        assert db.ask("ping")["epoch"] == before
    with running(tmp_path, "--redeploy", "fresh") as db:
        assert db.ask("readCatalogue")["items"] == []
        assert db.ask("listCalls")["calls"] == []
        assert db.ask("ping")["epoch"] != before
    assert (tmp_path / "skep-data/db/mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--store", "paper:x"], r"no store 'paper' of that form\n.*tinydb:FOLDER"),
        (["--store", "sqlite:x"], r"no store 'sqlite' of that form\n.*sqlite:///FILE"),
        (["--store", "sqlite:///:memory:"], r"no store 'sqlite' of that form"),
        (["--store", "sqlite:////proc/nowhere/db"], "cannot use /proc/nowhere"),
        (["--store", "mysql://me:secret@host/db"], r"no store 'mysql' of that form"),
        (["--store", "postgresql://me:secret@host:nine/db"], "URL cannot be read"),
        (
            ["--store", "postgresql://me:secret@127.0.0.1:1/db"],
            r"postgresql://me:\*\*\*@127.0.0.1:1/db does not answer: .*\n.*the server runs",
        ),
        (["--store", "tinydb:/proc/nowhere"], "cannot use /proc/nowhere"),
        (["--store", "memory:", "--bind", "tcp://127.0.0.1:x"], "no address to listen on"),
        (["--store", "memory:", "--bind", "ipc://" + "x" * 120], "longer than 107"),
        (["--redeploy", "never"], "Invalid value"),
    ],
)
def test_what_cannot_be_is_said_clearly(tmp_path: Path, options: list[str], says: str) -> None:
    with pytest.raises(RuntimeError, match=says) as caught:
        start(tmp_path, *options)
    assert "Traceback" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    with running(tmp_path):
        pass
    (tmp_path / "skep-data/db/catalogue.json").write_text("{")
    with pytest.raises(RuntimeError, match=r"catalogue.json is damaged.*\n.*--redeploy fresh"):
        start(tmp_path)


def test_an_ipc_endpoint_below_a_deep_folder_leaves_no_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    process, endpoint = start(deep, "--bind", "ipc://run/db", "--store", "memory:")
    assert endpoint == "ipc://run/db"
    assert (deep / "run/db").is_socket()
    assert end(process) == 0
    assert not (deep / "run/db").exists()


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    options = ["--lifeline-fd", str(reading), "--store", "memory:"]
    process, _ = start(tmp_path, *options, keep=(reading,))
    os.close(reading)
    assert process.poll() is None
    os.close(writing)
    process.communicate()
    assert process.returncode == 0
