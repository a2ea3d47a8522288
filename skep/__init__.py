"""What users import: the HTTP clients, their errors, and the shapes of what they return.

This package imports no other part of skep and needs only an HTTP client::

    from skep import Client

    with Client() as skep:
        print(skep.invoke("dice", roll="4d6"))

docs/python.md shows it all.
"""

from skep.client import AsyncClient, Client
from skep.errors import (
    BadRequest,
    CallFailed,
    Conflict,
    InstallFailed,
    NotReachable,
    QueueFull,
    SkepError,
    StillRunning,
    Unauthorized,
    Unavailable,
    UnknownCall,
    UnknownFunction,
    UnknownRuntime,
    UnknownWorker,
)
from skep.handles import CallHandle, FunctionHandle
from skep.handles_async import AsyncCallHandle, AsyncFunctionHandle
from skep.records import (
    TERMINAL,
    Attempt,
    Call,
    CallQuery,
    CallSettings,
    Function,
    FunctionChanges,
    FunctionSettings,
    Health,
    ImageSettings,
    Logs,
    Package,
    Process,
    Queue,
    Reason,
    Runtime,
    Starts,
    Versions,
    Worker,
)

__version__ = "0.1.0"
__all__ = [
    "TERMINAL",
    "AsyncCallHandle",
    "AsyncClient",
    "AsyncFunctionHandle",
    "Attempt",
    "BadRequest",
    "Call",
    "CallFailed",
    "CallHandle",
    "CallQuery",
    "CallSettings",
    "Client",
    "Conflict",
    "Function",
    "FunctionChanges",
    "FunctionHandle",
    "FunctionSettings",
    "Health",
    "ImageSettings",
    "InstallFailed",
    "Logs",
    "NotReachable",
    "Package",
    "Process",
    "Queue",
    "QueueFull",
    "Reason",
    "Runtime",
    "SkepError",
    "Starts",
    "StillRunning",
    "Unauthorized",
    "Unavailable",
    "UnknownCall",
    "UnknownFunction",
    "UnknownRuntime",
    "UnknownWorker",
    "Versions",
    "Worker",
]
