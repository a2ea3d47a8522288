"""schemathesis against our own OpenAPI document: no 5xx, all answers as they are described."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.api.room import ROOT, Process, open_room

HOOKS = Path(__file__).with_name("fuzz_hooks.py")
CONFIG = """
[generation]
deterministic = true
database = "none"
with-security-parameters = false

# It takes the texts of a form for typed values: 0 is no boolean to it, "" no text.
[[operations]]
include-operation-id = ["updateFunction", "registerFunction"]
checks.negative_data_rejection.enabled = false

# Any text is lines, and each is answered by itself.
[[operations]]
include-operation-id = ["invokeFunctions"]
checks.negative_data_rejection.enabled = false

# DELETE /call/N cancels; the record stays.
[[operations]]
include-operation-id = ["getCall", "getLogs", "cancelCall"]
checks.use_after_free.enabled = false
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_schemathesis_finds_nothing() -> None:
    # With a limit of its own: it asks a thousand times.
    asyncio.run(fuzzed())


async def fuzzed() -> None:
    async with open_room("--unfinished", "fail") as room:
        await room.register()
        worker = Process(
            "worker", "--name", "fuzzed", "--api", f"ipc://{room.folder}/workers",
            "--pub", f"ipc://{room.folder}/pub", "--data", str(room.folder / "node"),
            "--sandbox", "fake", "--slots", "4", cwd=room.folder,
        )  # fmt: skip
        try:
            await worker.ready()
            (room.folder / "schemathesis.toml").write_text(CONFIG)
            running = await asyncio.create_subprocess_exec(
                str(Path(sys.executable).with_name("schemathesis")),
                "run", f"{room.url}/openapi.json",
                "--max-examples", os.environ.get("SKEP_FUZZ_EXAMPLES", "8"), "--seed", "1",
                "--no-color", "--continue-on-failure", "--request-timeout", "20",
                cwd=room.folder,
                env=os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS), "PYTHONPATH": str(ROOT)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await running.communicate()
            assert running.returncode == 0, said.decode(errors="replace")
        finally:
            worker.end()
