"""Which sandboxes this node makes: asked of the miniworker room by running its probe."""

from __future__ import annotations

import subprocess
import sys
from typing import Final, Literal

import msgspec

from wire.errors import BadRequest
from worker.folder import NodeFolder

Driver = Literal["docker", "process", "fake"]
PROBE_S: Final = 120.0


class SandboxKind(msgspec.Struct, frozen=True, kw_only=True):
    """A driver, what it confines in plain words, and its settings for SPAWN."""

    driver: Driver
    isolation: str
    settings: dict[str, str] = {}


_FAKE: Final = SandboxKind(driver="fake", isolation="nothing: it runs no code of any function")


def choose(sandbox: str, folder: NodeFolder, boot: str, transport: str = "auto") -> SandboxKind:
    """Return the kind of sandbox that was asked for: decided here, once for this life.

    Raises:
        BadRequest: there is none of that kind here.
    """
    return _FAKE if sandbox == "fake" else _probe(sandbox, folder, boot, transport)


def with_credentials(kind: SandboxKind, file: str) -> SandboxKind:
    """Return the same with a file of credentials for registries, by its name alone."""
    if kind.driver != "docker" or not file:
        return kind
    return msgspec.structs.replace(kind, settings={**kind.settings, "registry_config": file})


def _probe(sandbox: str, folder: NodeFolder, boot: str, transport: str) -> SandboxKind:
    identity = {
        "installation": folder.installation,
        "node": folder.node_id,
        "boot": boot,
        "bundles": str(folder.bundles.absolute()),
    }
    command = [sys.executable, "-P", "-m", "miniworker", "probe", "--json"]
    command += ["--transport", transport]
    command += ["--driver", sandbox, "--identity", msgspec.json.encode(identity).decode()]
    try:
        done = subprocess.run(
            [*command, "--folder", str(folder.root)],
            check=True,
            capture_output=True,
            timeout=PROBE_S,
            stdin=subprocess.DEVNULL,
        )
        return msgspec.convert(msgspec.json.decode(done.stdout), SandboxKind)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        said = said.removeprefix("Error: ")
        raise BadRequest(f"this host cannot make sandboxes: {said}", hint=_HINT) from error
    except (subprocess.TimeoutExpired, msgspec.MsgspecError) as error:
        raise BadRequest(f"the sandbox probe failed: {error}", hint=_HINT) from error


_HINT: Final = "see it with: python -P -m miniworker probe --folder DIR --driver auto"
