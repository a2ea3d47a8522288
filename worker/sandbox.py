"""Which sandboxes this node makes: asked of the miniworker room by running its probe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

import msgspec

from wire.errors import BadRequest

Driver = Literal["docker", "process", "fake"]
PROBE_S: Final = 120.0


class SandboxKind(msgspec.Struct, frozen=True, kw_only=True):
    """A driver, what it confines in plain words, and its settings for SPAWN."""

    driver: Driver
    isolation: str
    settings: dict[str, str] = {}


_FAKE: Final = SandboxKind(driver="fake", isolation="nothing: it runs no code of any function")


def choose(sandbox: str, folder: Path) -> SandboxKind:
    """Return the kind of sandbox that was asked for.

    Raises:
        BadRequest: there is none of that kind here.
    """
    if sandbox == "docker":
        raise BadRequest(
            "there is no docker sandbox in this release",
            hint="use --sandbox auto or process: a confined local process",
        )
    return _FAKE if sandbox == "fake" else _probe(folder)


def _probe(folder: Path) -> SandboxKind:
    command = [sys.executable, "-P", "-m", "miniworker", "probe", "--json"]
    try:
        done = subprocess.run(
            [*command, "--folder", str(folder)],
            check=True,
            capture_output=True,
            timeout=PROBE_S,
            stdin=subprocess.DEVNULL,
        )
        return msgspec.convert(msgspec.json.decode(done.stdout), SandboxKind)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise BadRequest(f"this host cannot make sandboxes: {said}", hint=_HINT) from error
    except (subprocess.TimeoutExpired, msgspec.MsgspecError) as error:
        raise BadRequest(f"the sandbox probe failed: {error}", hint=_HINT) from error


_HINT: Final = "see it with: python -P -m miniworker probe --folder DIR"
