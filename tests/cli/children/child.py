"""A child that does as its first argument says; the rest is what a hive hands to it.

* ``good`` serves until SIGTERM or the end of its lifeline; ``stubborn`` ignores SIGTERM;
* ``dies`` exits before it is ready; ``once:FILE`` does so the first time only;
* ``mute`` never says that it is ready;
* ``parent`` has a child that ends with its lifeline, ``litter`` one that does not.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


def main() -> None:
    """Play."""
    role, name, trace = sys.argv[1:4]
    given = dict(zip(sys.argv[4::2], sys.argv[5::2], strict=True))
    ready, lifeline = int(given["--ready-fd"]), int(given["--lifeline-fd"])
    note(trace, f"start {name}")
    print(f"now WARNING {name}: a word to the user", file=sys.stderr, flush=True)
    early(role)
    if role == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        wake, bell = os.pipe()
        signal.signal(signal.SIGTERM, lambda *_: os.write(bell, b"."))
    if role in ("parent", "litter"):
        keep = [lifeline] if role == "parent" else []
        wait = f"import os; os.read({lifeline}, 1)" if keep else "import signal; signal.pause()"
        subprocess.Popen([sys.executable, "-c", wait], pass_fds=keep, start_new_session=True)
    if role != "mute":
        # Its parent may have been killed a moment ago.
        with suppress(BrokenPipeError):
            said = {"name": name, "url": "http://127.0.0.1:4711"}
            os.write(ready, json.dumps(said).encode() + b"\n")
    ends = [lifeline] if role == "stubborn" else [lifeline, wake]
    select.select(ends, [], [])
    note(trace, f"stop {name}")


def early(role: str) -> None:
    """End before being ready, where that is the role."""
    if role == "dies":
        sys.exit("the reason why it dies")
    if role.startswith("once:"):
        mark = Path(role.removeprefix("once:"))
        if not mark.exists():
            mark.touch()
            sys.exit(3)


def note(trace: str, what: str) -> None:
    """Append a line, in one write, so that the order is the order of events."""
    with Path(trace).open("ab", buffering=0) as file:
        file.write(f"{what}\n".encode())


if __name__ == "__main__":
    main()
