"""The endpoints of the platform itself."""

from __future__ import annotations

from typing import Any, Final

from api.answers import Health, QueueShown, Readiness, Versions, WorkerShown
from api.asked import Answer, Route, ok
from api.queries import DrainQuery, WorkerPath
from wire.errors import Conflict, NoWorker, UnknownWorker

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/workers",
        name="list_workers",
        tag="platform",
        summary="The nodes: who is there, and who was",
        answers=ok("the workers, by name", list[WorkerShown]),
    ),
    Route(
        method="POST",
        path="/workers/{worker}/drain",
        name="drain_worker",
        tag="platform",
        summary="Give a node nothing new; what runs there finishes",
        at=WorkerPath,
        query=DrainQuery,
        answers={
            200: Answer("nothing is left there: it may be stopped", WorkerShown),
            202: Answer("it drains", WorkerShown),
        },
        errors=(UnknownWorker, Conflict),
        example_path="/workers/node1/drain?wait=60",
    ),
    Route(
        method="POST",
        path="/workers/{worker}/resume",
        name="resume_worker",
        tag="platform",
        summary="Give a node work again",
        at=WorkerPath,
        answers=ok("it is told so", WorkerShown),
        errors=(UnknownWorker, Conflict),
        example_path="/workers/node1/resume",
    ),
    Route(
        method="DELETE",
        path="/workers/{worker}",
        name="delete_worker",
        tag="platform",
        summary="Forget a node that is gone; what ran there ends at once",
        at=WorkerPath,
        answers={204: Answer("it is forgotten")},
        errors=(UnknownWorker, Conflict),
        example_path="/workers/node1",
    ),
    Route(
        method="GET",
        path="/queues",
        name="list_queues",
        tag="platform",
        summary="How many calls wait and run, by function revision",
        answers=ok("the functions that have any", list[QueueShown]),
    ),
    Route(
        method="GET",
        path="/healthz",
        name="get_health",
        tag="platform",
        summary="Whether the api lives",
        is_open=True,
        answers=ok("it does", Health),
    ),
    Route(
        method="GET",
        path="/version",
        name="get_version",
        tag="platform",
        summary="The release and the protocol version of every process",
        answers=ok("the api's own, and a list of all", Versions),
    ),
    Route(
        method="GET",
        path="/readyz",
        name="get_readiness",
        tag="platform",
        summary="Whether a call would find a worker",
        is_open=True,
        answers=ok("it would", Readiness),
        errors=(NoWorker,),
    ),
    Route(
        method="GET",
        path="/openapi.json",
        name="get_openapi",
        tag="platform",
        summary="This interface as an OpenAPI 3.1 document",
        is_open=True,
        answers=ok("the document", dict[str, Any]),
    ),
    Route(
        method="GET",
        path="/docs",
        name="get_docs",
        tag="platform",
        summary="This interface as a page for people",
        is_open=True,
        answers={200: Answer("the page", str, ("text/html",))},
    ),
    Route(
        method="GET",
        path="/metrics",
        name="get_metrics",
        tag="platform",
        summary="What there is to measure, as Prometheus reads it (docs/observability.md)",
        answers={200: Answer("the metrics", str, ("text/plain",))},
    ),
)
