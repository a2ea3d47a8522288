"""What happens in the demo, step by step; each proves something or fails."""

from __future__ import annotations

import json
import random
import tarfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Final

from deploy.demo.cluster import Cluster, Failed
from deploy.demo.page import Page
from deploy.demo.tally import Record, Tally, had_begun, names

SERVICES: Final = ("registry", "dbnode", "api", "worker-1", "worker-2")
VICTIM: Final = "worker-2"
OTHER: Final = "worker-1"
#: What runs in each runtime: the functions need nothing installed, so nothing says how to.
RUNS: Final = {"node": "node darts.js", "python": "python3 darts.py"}
#: Each: its runtime, and whether its calls may run twice.
FUNCTIONS: Final = {
    "darts": ("python", True),
    "darts-js": ("node", True),
    "darts-once": ("python", False),
}
CALLS: Final = 200
DARTS: Final = 1000
#: How long a call lasts, in seconds: a node that dies has some of both kinds in hand.
PAUSES_S: Final = {True: 0.4, False: 1.0}
#: Of the calls, as many have ended when the node dies.
MIDWAY: Final = 60
#: While a node is restarted, a call comes every so many seconds.
EVERY_S: Final = 0.15


class Tour:
    """The steps, in their order; each is called once."""

    def __init__(self, page: Page, cluster: Cluster) -> None:
        self._page = page
        self._cluster = cluster
        self._nodes: dict[str, str] = {}

    def images(self) -> None:
        """Make what images are not there."""
        with self._page.step("Images"):
            made = self._cluster.make_images(list(RUNS))
            self._page.good(", ".join([*made, *(image_of(runtime) for runtime in RUNS)]))

    def up(self) -> None:
        """Bring it up: all healthy, two nodes, nothing to be reached from elsewhere."""
        page, cluster = self._page, self._cluster
        with page.step("Bring it up"):
            page.command(f"{cluster.program} --project-name {cluster.project} up --detach")
            cluster.up()
            addresses = cluster.addresses(SERVICES)
            if set(addresses) != {"127.0.0.1"}:
                raise Failed(f"published on {', '.join(addresses)}, not on 127.0.0.1 alone")
            page.good(f"{', '.join(SERVICES)}: published on 127.0.0.1 alone ({cluster.url})")
            self._await_workers(VICTIM, OTHER)
            workers = cluster.get("/workers")
            self._nodes = {one["name"]: one["node"] for one in workers}
            for one in workers:
                page.good(f"{one['name']}: {one['slots']} slots, sandbox {one['sandbox']}")

    def register(self) -> None:
        """Register the runtimes and functions, with curl."""
        page, cluster = self._page, self._cluster
        with page.step("Register runtimes and functions"):
            page.note("a .curlrc holds the token: command lines can be read by everybody")
            for runtime, run in RUNS.items():
                body = json.dumps({"image": image_of(runtime), "path": "/ws", "run": run})
                cluster.curl("--json", body, "/registerRuntime")
            for name, (runtime, is_idempotent) in FUNCTIONS.items():
                module = f"module=@{packed(cluster.folder, runtime)}"
                settings = ["idempotent=true", "minWarm=1"] if is_idempotent else []
                fields = [
                    word
                    for one in (module, "entry=darts.main", *settings)
                    for word in ("-F", one)
                ]
                cluster.curl(*fields, f"/registerFunction/{image_of(runtime)}/{name}")
            cluster.until(self._is_warm, "warm sandboxes on both nodes")
            page.good("what may run twice is loaded and waits on both nodes (minWarm=1)")

    def death(self) -> None:
        """Invoke the calls, kill a node in the middle, show what becomes of each."""
        page = self._page
        with page.step(f"{CALLS} calls, and a node that dies midway"):
            first, last = self._invoke()
            container = self._cluster.container(VICTIM)
            self._cluster.until(lambda: self._is_midway(first, last), "calls on both nodes")
            self._cluster.run("docker", "kill", container)
            page.command(f"docker kill {container[:12]}        # {VICTIM}")
            before = self._tally(first, last)
            page.say(f"{before.ended} calls had ended by then:")
            page.bars(self._shares(before))
            self._cluster.until(
                lambda: self._look(first, last).ended == CALLS, f"the end of all {CALLS} calls"
            )
            self._show(self._tally(first, last))

    def back(self) -> None:
        """Start the killed node again; it cleans up after its former life."""
        page, cluster = self._page, self._cluster
        with page.step(f"{VICTIM} comes back"):
            left = set(cluster.sandboxes(self._nodes[VICTIM]))
            page.command(f"{cluster.program} start {VICTIM}")
            cluster.compose("start", VICTIM)
            self._await_workers(VICTIM)
            cluster.until(
                lambda: not left & set(cluster.sandboxes(self._nodes[VICTIM])),
                "containers of its former life gone",
            )
            page.good(f"up, and the {len(left)} sandboxes that it left behind are gone")

    def rolling(self) -> None:
        """Restart the other node while calls come that must not run twice."""
        page, cluster = self._page, self._cluster
        with page.step(f"Rolling restart of {OTHER}, while calls come"):
            page.say(f"a call of darts-once every {EVERY_S} s: none of them could be repeated")
            with ThreadPoolExecutor(1) as pool:
                enough = Event()
                coming = pool.submit(self._keep_calling, enough)
                try:
                    self._restart(coming)
                finally:
                    enough.set()
                numbers = coming.result()
            ended = Tally([cluster.get(f"/call/{number}?wait=60") for number in numbers])
            page.bars(self._shares(ended))
            if set(ended.statuses) != {"DONE"}:
                raise Failed(f"calls were lost in a rolling restart: {dict(ended.statuses)}")
            page.good(f"{len(numbers)} of {len(numbers)} calls are DONE: not one was lost")

    def _restart(self, coming: Future[list[int]]) -> None:
        page, cluster = self._page, self._cluster
        cluster.until(lambda: self._has(OTHER), f"a call on {OTHER}")
        drained = json.loads(cluster.curl("-X", "POST", f"/workers/{OTHER}/drain?wait=60"))
        if not drained["drained"]:
            raise Failed(f"{OTHER} was not drained within a minute")
        page.good("drained: what ran there has ended, what comes goes to the other")
        page.command(f"{cluster.program} stop {OTHER} && {cluster.program} start {OTHER}")
        cluster.compose("stop", "--timeout", "30", OTHER)
        if left := cluster.sandboxes(self._nodes[OTHER]):
            raise Failed(f"{OTHER} left sandboxes behind: {' '.join(left)}")
        cluster.compose("start", OTHER)
        self._await_workers(OTHER)
        cluster.until(lambda: coming.done() or self._has(OTHER), f"a call on the new {OTHER}")
        page.good("stopped with all its sandboxes, started, and has calls again")

    def _invoke(self) -> tuple[int, int]:
        """Send all calls in one request; return the numbers of the first and the last."""
        lines = self._cluster.folder / "calls.jsonl"
        which = [*FUNCTIONS, "darts", "darts-js"]
        each = [call(which[seed % len(which)], seed) for seed in range(CALLS)]
        lines.write_text("".join(json.dumps(one) + "\n" for one in each))
        kind = "Content-Type: application/x-ndjson"
        said = self._cluster.curl("-H", kind, "--data-binary", f"@{lines}", "/invokeFunctions")
        answers = [json.loads(line) for line in said.splitlines()]
        accepted = [one["callNum"] for one in answers if one["status"] == 202]
        if len(accepted) != CALLS:
            raise Failed(f"{len(accepted)} of {CALLS} calls were accepted")
        self._page.say(f"c{min(accepted)} to c{max(accepted)} are accepted: each will end")
        return min(accepted), max(accepted)

    def _is_midway(self, first: int, last: int) -> bool:
        """Whether enough have ended, and the victim has calls of both kinds in hand."""
        tally = self._look(first, last)
        kinds = {FUNCTIONS[name][1] for name in tally.running_on(VICTIM)}
        # If it never has both at once, it dies with one that shows the most.
        return tally.ended >= MIDWAY and (
            kinds == {True, False} or (tally.ended > CALLS * 0.7 and True in kinds)
        )

    def _show(self, tally: Tally) -> None:
        page = self._page
        page.say("and when all have ended:")
        page.bars(self._shares(tally))
        moved, lost = tally.moved_from(VICTIM), tally.of("LOST")
        if moved:
            begun = sum(had_begun(one, VICTIM) for one in moved)
            page.good(
                f"{len(moved)} dispatched again, and DONE on {OTHER} "
                f"({begun} had begun, and may run twice):"
            )
            page.note(names(moved, page.width - 8))
        if lost:
            page.bad(f"{len(lost)} LOST: darts-once, begun on {VICTIM}, must not run twice:")
            page.note(names(lost, page.width - 8))
        statuses = tally.statuses
        said = ", ".join(f"{number} {status}" for status, number in statuses.most_common())
        page.good(f"{tally.ended} of {CALLS} calls have ended: {said}")
        pi, darts = tally.pi()
        page.say(f"and their {darts:,} darts say that π is about {pi:.3f}")
        check(tally, moved, lost)

    def _shares(self, tally: Tally) -> dict[str, tuple[int, str]]:
        """Return the bars: how many calls each node ran, and of which functions."""
        shares = {}
        for node in (OTHER, VICTIM):
            ran = tally.ran_on(node)
            each = "  ".join(f"{name} {ran[name]}" for name in FUNCTIONS if ran[name])
            shares[node] = (ran.total(), each)
        return shares

    def _look(self, first: int, last: int) -> Tally:
        """Return where the calls are, and show it."""
        tally = self._tally(first, last)
        shares = "   ".join(f"{node} {ran}" for node, (ran, _) in self._shares(tally).items())
        self._page.live(f"{tally.ended:>3} of {CALLS}   {shares}")
        return tally

    def _tally(self, first: int, last: int) -> Tally:
        found = self._cluster.get(f"/calls?limit=1000&after={first - 1}").values()
        return Tally([one for one in found if one["callNum"] <= last])

    def _is_warm(self) -> bool:
        workers = self._cluster.get("/workers")
        kept = sum(is_idempotent for _, is_idempotent in FUNCTIONS.values())
        return all(len(one["warm"]) >= kept for one in workers)

    def _await_workers(self, *names: str) -> None:
        def up() -> bool:
            workers = self._cluster.get("/workers")
            return set(names) <= {one["name"] for one in workers if one["state"] == "up"}

        self._cluster.until(up, f"{' and '.join(names)} up")

    def _has(self, node: str) -> bool:
        """Whether a node has calls now."""
        workers = self._cluster.get("/workers")
        return any(one["name"] == node and one["running"] for one in workers)

    def _keep_calling(self, enough: Event) -> list[int]:
        """Send a call after the other until it is enough; return their numbers."""
        numbers = []
        while not enough.wait(EVERY_S):
            body = call("darts-once", random.getrandbits(30))
            numbers.append(self._cluster.ask("/invokeFunction", body)["callNum"])
        return numbers


def call(function: str, seed: int) -> Record:
    """Return one call as a request has it."""
    pause_s = PAUSES_S[FUNCTIONS[function][1]]
    params = {"darts": DARTS, "seed": seed, "pause": pause_s}
    return {"funcName": function, "params": params}


def image_of(runtime: str) -> str:
    """Return what deploy/images.sh calls a runtime's image; the runtime has its name of it."""
    return f"{runtime}runtime"


def packed(folder: Path, runtime: str) -> Path:
    """Return the package of a runtime's function, made in a folder."""
    package = folder / f"{runtime}.tar.gz"
    with tarfile.open(package, "w:gz") as archive:
        archive.add(Path(__file__).with_name("functions") / runtime, arcname=".")
    return package


def check(tally: Tally, moved: list[Record], lost: list[Record]) -> None:
    """Fail if anything is not as it was promised."""
    may_be_lost = {name for name, (_, is_idempotent) in FUNCTIONS.items() if not is_idempotent}
    if unlike := [one for one in tally.of("LOST") if one["funcName"] not in may_be_lost]:
        raise Failed(f"LOST, though they may run twice: {names(unlike, 60)}")
    if unlike := [one for one in tally.records if one["status"] not in ("DONE", "LOST")]:
        raise Failed(f"neither DONE nor LOST: {names(unlike, 60)}")
    if not moved and not lost:
        raise Failed(f"{VICTIM} had nothing in hand when it died: nothing was shown")
