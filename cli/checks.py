"""What ``skep doctor`` looks at on this machine: each check is done, not guessed.

A check never raises: what it finds is one ``Finding``.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from cli.up import check_port
from cli.words import size

State = Literal["ok", "warn", "fail"]
#: A program that says nothing for so long, in seconds, does not work.
_PATIENCE_S: Final = 10.0
_LITTLE_DISK: Final = 2 << 30
_NO_DISK: Final = 200 << 20
_OLDEST_PYTHON: Final = (3, 11)
#: Where skep-api and skep-dbnode listen when they are started one by one.
INNER_PORTS: Final = (3001, 3002, 3003)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and how to mend it if that is wanted."""

    check: str
    state: State
    found: str
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def python(version: str = platform.python_version()) -> Finding:
    """Look at the Python that runs skep."""
    found = f"{version} at {sys.executable}"
    if tuple(map(int, version.split(".")[:2])) >= _OLDEST_PYTHON:
        return Finding("Python", "ok", found)
    return Finding("Python", "fail", found, "install Python 3.11 or newer and skep with it")


def system() -> Finding:
    """Look at the operating system."""
    found = f"{platform.system()} {platform.release()}, {os.cpu_count()} cores"
    if platform.system() == "Linux":
        return Finding("system", "ok", found)
    return Finding("system", "fail", found, "workers need Linux: use a container or a VM")


def pip() -> Finding:
    """Look for the installer that a runtime's dependencies command calls."""
    program = shutil.which("pip3")
    command = [program, "--version"] if program else [sys.executable, "-m", "pip", "--version"]
    status, said = _run(command)
    if status == 0 and program:
        return Finding("pip", "ok", said.partition(" from ")[0] + f" at {program}")
    mend = "Debian: sudo apt-get install python3-pip; needed by functions with requirements"
    found = "no pip3 on the PATH" + (" (python -m pip works)" if status == 0 else "")
    return Finding("pip", "warn", found, mend)


def bubblewrap() -> Finding:
    """Make the sandbox that functions get, with nothing in it."""
    program = shutil.which("bwrap")
    without = "without it functions are confined less; skep up says how"
    if program is None:
        mend = f"Debian: sudo apt-get install bubblewrap ({without})"
        return Finding("bubblewrap", "warn", "bwrap is not installed", mend)
    status, said = _run(
        [program, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/",
         "--proc", "/proc", "--dev", "/dev", "true"]
    )  # fmt: skip
    version = _run([program, "--version"])[1]
    if status == 0:
        return Finding("bubblewrap", "ok", f"{version} works")
    mend = f"allow user namespaces, see the line below ({without})"
    return Finding("bubblewrap", "warn", f"{version} is there and fails: {said}", mend)


def user_namespaces() -> Finding:
    """Make a user namespace."""
    code = (
        "import ctypes,os;r=ctypes.CDLL(None,use_errno=True).unshare(0x10000000);"
        "print(os.strerror(ctypes.get_errno()) if r else '');raise SystemExit(bool(r))"
    )
    status, said = _run([sys.executable, "-c", code])
    if status == 0:
        return Finding("user namespaces", "ok", "one can be made")
    return Finding("user namespaces", "warn", f"none can be made: {said}", _namespace_mend())


def _namespace_mend() -> str:
    for name, wrong, mend in (
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1",
         "kernel.apparmor_restrict_unprivileged_userns=0"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ):  # fmt: skip
        if _read(Path("/proc/sys") / name) == wrong:
            return f"sudo sysctl -w {mend}"
    return "in a container: allow it (--security-opt seccomp=unconfined), or go without"


def docker(environment: dict[str, str]) -> Finding:
    """Ask the Docker engine who it is."""
    address = environment.get("DOCKER_HOST") or _docker_socket(environment)
    optional = "optional: functions can be confined processes"
    if not address:
        mend = f"install Docker, or start it ({optional})"
        return Finding("Docker", "warn", "no engine's socket was found", mend)
    try:
        version = _ask_docker(address)
    except PermissionError:
        found = f"{address}: permission denied"
        mend = f"sudo usermod -aG docker $USER, then log in again ({optional})"
        return Finding("Docker", "warn", found, mend)
    except (OSError, http.client.HTTPException, ValueError) as error:
        found = f"{address}: {str(error) or type(error).__name__}"
        mend = f"sudo systemctl start docker, or mend DOCKER_HOST ({optional})"
        return Finding("Docker", "warn", found, mend)
    use = "skep up --sandbox docker makes functions containers"
    return Finding("Docker", "ok", f"engine {version} at {address}: {use}")


def _docker_socket(environment: dict[str, str]) -> str:
    own = environment.get("XDG_RUNTIME_DIR", "")
    for path in (Path("/var/run/docker.sock"), Path(own or "/nowhere") / "docker.sock"):
        if path.is_socket():
            return f"unix://{path}"
    return ""


class _Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's file instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_PATIENCE_S)
        self.sock.connect(self._path)


def _ask_docker(address: str) -> str:
    where = urlsplit(address)
    connection: http.client.HTTPConnection
    if where.scheme == "unix":
        connection = _Unix(where.path)
    elif where.scheme in ("tcp", "http") and where.hostname:
        connection = http.client.HTTPConnection(
            where.hostname, where.port or 2375, timeout=_PATIENCE_S
        )
    else:
        raise ValueError("neither unix:// nor tcp://; not looked at")
    try:
        connection.request("GET", "/version")
        return str(json.loads(connection.getresponse().read())["Version"])
    except KeyError as error:
        raise ValueError("it answers, but not as an engine does") from error
    finally:
        connection.close()


def disk(folder: Path) -> Finding:
    """Look at the room where the data lies, or will."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{size(free)} free at {there}"
    if not os.access(there, os.W_OK):
        return Finding("disk", "fail", f"{there} is not writable", "choose another --data DIR")
    if free < _NO_DISK:
        return Finding("disk", "fail", found, "free some, or choose another --data DIR")
    if free < _LITTLE_DISK:
        return Finding("disk", "warn", found, "packages and their dependencies need room")
    return Finding("disk", "ok", found)


def port(host: str, number: int, *, is_ours: bool) -> Finding:
    """Look whether ``skep up`` can listen, or already does."""
    name = f"port {number}"
    if is_ours:
        return Finding(name, "ok", f"skep answers at {host}:{number}")
    try:
        check_port(host, number)
    except OSError as error:
        mend = f"stop what listens there (ss -ltnp 'sport = :{number}'), or skep up --port N"
        return Finding(name, "fail", f"taken by another program ({error.strerror})", mend)
    return Finding(name, "ok", f"free at {host}")


def inner_ports(host: str) -> Finding:
    """Look at the ports of processes that are started one by one; skep up needs none."""
    taken = []
    for number in INNER_PORTS:
        try:
            check_port(host, number)
        except OSError:
            taken.append(str(number))
    name = f"ports {INNER_PORTS[0]}-{INNER_PORTS[-1]}"
    if not taken:
        return Finding(name, "ok", f"free at {host}")
    mend = "only skep-api and skep-dbnode started by hand want them; they have options for it"
    return Finding(name, "warn", f"{', '.join(taken)} taken", mend)


def _run(command: Sequence[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    said = (done.stdout + done.stderr).strip().splitlines() or [""]
    return done.returncode, said[-1]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
