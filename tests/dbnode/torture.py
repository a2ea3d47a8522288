"""A DB node killed in the middle of heavy writes, again and again.

Several clients write new calls and change old ones, a few records to a request, spread over
many partitions. Then the DB node is killed, or the server of its database, or both. What was
acknowledged has to be there as it was written, and what was not may be, but whole.

    python -m tests.dbnode.torture [--rounds 100] [--store tinydb] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import zmq

from tests import postgres
from tests.conftest import eventually
from tests.dbnode.lives import Lives
from tests.dbnode.running import Asker, asker, plain_record
from tests.postgres import Server

STORES: Final = ("tinydb", "sqlite", "postgresql")
WRITERS: Final = 3
#: How many calls of one writer lie beside each other: a partition holds a thousand calls.
RUN: Final = 300
#: How many records are read again after each kill; at the end all are.
SAMPLE: Final = 30
#: What is killed; to start a database's server again takes long.
FAULTS: Final = ("node", "node", "node", "server", "both")
_ANSWER_MS: Final = 20


def written(num: int, rev: int, epoch: int) -> dict[str, Any]:
    """Return a record of a call at a revision, of these numbers alone: it can be checked."""
    attempts = [{"attempt": n + 1, "node": f"node{n}"} for n in range(max(0, rev - 2))]
    fields: dict[str, Any] = {"attempts": attempts, "params": {"n": num, "x": "p" * _size(num)}}
    if rev > 1:
        fields |= {"status": "DONE", "result": f"{num}" * _size(num)}
    record = plain_record(num, rev, epoch, **fields)
    return record | {"idempotencyKey": f"key{num}", "idempotencyDigest": "d"}


def _size(num: int) -> int:
    # Some are small, some are kept beside the page.
    return (num % 7) * 90


class Writer(threading.Thread):
    """Writes until it is cut off; each has calls of its own."""

    def __init__(self, index: int, life: int, endpoint: str, epoch: int, seed: int) -> None:
        super().__init__(name=f"writer{index}")
        self._endpoint = endpoint
        self._epoch = epoch
        self._dice = random.Random(seed)
        self._next = life * 20_000 + index * 5_000 + 1
        self._end = threading.Event()
        self.old: dict[int, int] = {}
        self.acked: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        self.answers = 0

    def run(self) -> None:
        with asker(self._endpoint) as db:
            db.socket.setsockopt(zmq.RCVTIMEO, _ANSWER_MS)
            while not self._end.is_set():
                batch = self._batch()
                self.sent |= batch
                records = [written(num, rev, self._epoch) for num, rev in batch.items()]
                content = {"api": "api", "epoch": self._epoch, "records": records}
                if not self._write(db, {"msgType": "writeCalls", "content": content}):
                    return
                self.acked |= batch
                self.answers += 1

    def _batch(self) -> dict[int, int]:
        """Choose what changes: new calls, and ones of earlier batches and lives."""
        known = self.old | self.acked
        batch = {}
        for _ in range(self._dice.randint(1, 4)):
            if known and self._dice.random() < 0.6:
                num = self._dice.choice(list(known))
                batch[num] = known[num] + 1
            else:
                batch[self._next] = 1
                self._next += RUN if self._dice.random() < 0.05 else 1
        return batch

    def _write(self, db: Asker, asked: dict[str, Any]) -> bool:
        """Write until it is acknowledged; return whether it was."""
        while not self._end.is_set():
            db.socket.send(json.dumps(asked).encode())
            answer = self._answer(db)
            if answer is None:
                return False
            if answer["ok"]:
                return True
            assert answer["error"]["code"] == "store_unavailable", answer
            time.sleep(0.02)
        return False

    def _answer(self, db: Asker) -> Any:
        while not self._end.is_set():
            try:
                return json.loads(db.socket.recv())
            except zmq.Again:
                continue
        return None

    def cut(self) -> None:
        """End it, whatever it waits for."""
        self._end.set()
        self.join()


class Torture:
    """One store, and what its clients know of it."""

    def __init__(self, folder: Path, store: str, server: Server | None, seed: int) -> None:
        self._lives = Lives(folder, "--store", store)
        self._server = server
        self._dice = random.Random(seed)
        self.acked: dict[int, int] = {}
        self._sent: dict[int, int] = {}
        self.kills = 0

    def run(self, rounds: int) -> dict[str, int]:
        """Do so many rounds; return what was counted."""
        with self._lives:
            for life in range(1, rounds + 1):
                self._round(life)
            with asker(self._lives.start()) as db:
                self._check(db, list(self._sent))
        revisions = sum(self.acked.values())
        return {"kills": self.kills, "calls": len(self.acked), "revisions": revisions}

    def _round(self, life: int) -> None:
        endpoint = self._lives.start()
        with asker(endpoint) as db:
            epoch = db.ask("openApi", api="api")["epoch"]
            assert epoch >= life
            known = list(self._sent)
            self._check(db, self._dice.sample(known, min(SAMPLE, len(known))))
        writers = [
            Writer(index, life, endpoint, epoch, self._dice.randrange(1 << 32))
            for index in range(WRITERS)
        ]
        for index, writer in enumerate(writers):
            writer.old = {n: r for n, r in self.acked.items() if n % WRITERS == index}
            writer.start()
        try:
            self._break(writers)
        finally:
            for writer in writers:
                writer.cut()
        for writer in writers:
            self.acked |= writer.acked
            self._sent |= writer.sent

    def _break(self, writers: list[Writer]) -> None:
        """Kill what this round kills, at any moment of the writing."""
        self._await_answers(writers)
        what = self._dice.choice(FAULTS) if self._server else "node"
        if self._server is not None and what != "node":
            self._server.kill()
            self.kills += 1
            if what == "both":
                self._kill_node()
            self._server.start()
            if what == "server":
                # It goes on by itself, and is killed in its turn.
                self._await_answers(writers)
        if what != "both":
            self._kill_node()

    def _await_answers(self, writers: list[Writer]) -> None:
        before = sum(writer.answers for writer in writers)
        count = self._dice.randint(3, 25)
        eventually(
            lambda: sum(writer.answers for writer in writers) >= before + count, 40, "writes"
        )
        time.sleep(self._dice.random() * 0.02)

    def _kill_node(self) -> None:
        self._lives.kill()
        self.kills += 1

    def _check(self, db: Asker, nums: list[int]) -> None:
        """What was acknowledged is there; what is there is whole, and not from the future."""
        for num in nums:
            acked, sent = self.acked.get(num, 0), self._sent[num]
            if not acked and num not in _known(db, num):
                continue
            record = db.ask("getCall", callNum=num)["record"]
            rev = record["rev"]
            assert acked <= rev <= sent, (num, acked, rev, sent)
            ours = written(num, rev, record["epoch"])
            for name in ("params", "status", "result"):
                assert record["call"][name] == ours["call"].get(name, _ABSENT[name]), (
                    num,
                    name,
                )
            assert [a["node"] for a in record["call"]["attempts"]] == [
                a["node"] for a in ours["call"]["attempts"]
            ]
            by_key = db.ask("findCall", idempotencyKey=f"key{num}")["record"]
            assert by_key == record
            # The acknowledged revision of one that was not told: from here on it counts.
            self.acked[num] = rev


_ABSENT: Final = {"status": "PENDING", "result": "", "params": None}


def _known(db: Asker, num: int) -> list[int]:
    listed = db.ask("listCalls", after=num - 1, limit=1)["calls"]
    return [call["callNum"] for call in listed]


@contextmanager
def store_of(
    kind: str, folder: Path, cluster: Path | None
) -> Iterator[tuple[str, Server | None]]:
    """Make a new store of a kind, and its server (of a copy of ``cluster``) if it has one."""
    names: dict[str, Callable[[], str]] = {
        "tinydb": lambda: f"tinydb:{folder}/db",
        "sqlite": lambda: f"sqlite:///{folder}/db.sqlite",
    }
    if kind in names:
        yield names[kind](), None
        return
    with ExitStack() as stack:
        cluster = cluster or stack.enter_context(postgres.template())
        server = stack.enter_context(postgres.server(cluster))
        yield server.url(server.database()), server


def torture(
    kind: str, folder: Path, rounds: int, seed: int, cluster: Path | None = None
) -> dict[str, int]:
    """Torture a new store of a kind; return what was counted."""
    with store_of(kind, folder, cluster) as (store, server):
        return Torture(folder, store, server, seed).run(rounds)


def main() -> None:
    """Run, and print what was counted."""
    parser = argparse.ArgumentParser(description="Kills in heavy writes.")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--store", choices=STORES, action="append", help="All by default.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}: the same choices again with --seed {given.seed}", flush=True)
    for kind in given.store or STORES:
        with tempfile.TemporaryDirectory(prefix="skep-torture-") as folder:
            begun = time.monotonic()
            told = torture(kind, Path(folder), given.rounds, given.seed)
        told["seconds"] = round(time.monotonic() - begun)
        print(json.dumps({"store": kind, "rounds": given.rounds, **told, "violations": 0}))


if __name__ == "__main__":
    main()
