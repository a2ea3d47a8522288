"""A node in a network namespace of its own, over a link whose packets can vanish."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Final

from tests.apart.net import Net
from tests.faults.places import listening

#: What a worker reads of it (``tests.faults.wired``), in the folder of the wires.
FILE: Final = "far.json"


class Far:
    """The namespaces, and where the far node finds the api and the witness."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.net = Net([node], slow=[])
        api = self.net.name("api")
        host = self.net.address_of_api(node)
        #: The ends of its wires, by name; both are in the api's namespace.
        self.sockets = {name: listening(api, host) for name in (node, f"{node}.pub")}
        self.witness: socket.socket = listening(api, host)

    def describe(self, folder: Path) -> None:
        """Tell whoever starts the worker how, and where it connects to."""
        places = [one.getsockname()[:2] for one in self.sockets.values()]
        api, pub = (f"tcp://{host}:{port}" for host, port in places)
        told = {"node": self.node, "within": self.net.within(self.node), "api": api, "pub": pub}
        (folder / FILE).write_text(json.dumps(told))

    def close(self) -> None:
        """Remove the namespaces."""
        for one in self.sockets.values():
            one.close()
        self.net.close()
