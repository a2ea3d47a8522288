"""Where a call stands on its way through dispatch."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """Where a call stands in dispatch (finer than its public status)."""

    #: Its first record is not durable yet: nothing may be done with it.
    ACCEPTING = "accepting"
    #: It waits for a credit, or for its back-off to pass.
    QUEUED = "queued"
    #: PREPARE was sent: a sandbox is being made.
    PREPARED = "prepared"
    #: START is decided; it goes out when the record that says so is durable.
    PERMITTED = "permitted"
    #: START was handed to the socket: possibly started.
    STARTED = "started"
    #: Possibly started on a node whose session is lost.
    SILENT = "silent"
    #: Read from the store at start, and not judged yet (or kept on request).
    UNDECIDED = "undecided"
    ENDED = "ended"
