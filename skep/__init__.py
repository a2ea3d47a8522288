"""What users import: the HTTP client, its errors and the version. Nothing else.

This package imports no other part of skep and needs only an HTTP client::

    from skep import Client

    with Client() as skep:
        print(skep.submit_call("dice", {"roll": "4d6"}, wait=60)["result"])
"""

from skep.client import Client
from skep.errors import NotReachable, SkepError
from skep.records import (
    TERMINAL,
    Attempt,
    Call,
    Function,
    Health,
    Logs,
    Queue,
    Reason,
    Runtime,
    Worker,
)

__version__ = "0.1.0"
__all__ = [
    "TERMINAL",
    "Attempt",
    "Call",
    "Client",
    "Function",
    "Health",
    "Logs",
    "NotReachable",
    "Queue",
    "Reason",
    "Runtime",
    "SkepError",
    "Worker",
]
