"""The verbs of the asynchronous client that give records; ``skep.raw`` says more of each."""

from __future__ import annotations

import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Mapping,
)
from contextlib import aclosing
from pathlib import Path
from typing import Any, Unpack

from skep.ahead import in_order_async, started_async
from skep.dialogue import Archive
from skep.records import (
    Call,
    CallQuery,
    CallSettings,
    Function,
    FunctionChanges,
    FunctionSettings,
    Health,
    ImageSettings,
    Logs,
    Queue,
    Runtime,
    Versions,
    Worker,
)
from skep.shells import AsyncShell
from skep.values import NO_PARAMS, numbered
from skep.verbs import Told


class RawAsyncVerbs:
    """The verbs that give records."""

    _shell: AsyncShell

    # --- calls -------------------------------------------------------------------------

    async def submit_call(
        self,
        function: str,
        params: Any = NO_PARAMS,
        *,
        wait: float | None = 0.0,
        idempotency_key: str | None = None,
        **options: Unpack[CallSettings],
    ) -> Call:
        """Make a call and return its record: at once, or after ``wait`` seconds."""
        return await self._shell.perform(
            self._shell.verbs.submit(
                function, params, wait=wait, key=idempotency_key, settings=options
            )
        )

    async def map_calls(
        self,
        function: str,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        concurrency: int = 16,
        idempotency_key: str | None = None,
        first: int = 0,
        **options: Unpack[CallSettings],
    ) -> AsyncGenerator[Call, None]:
        """Make a call of each input; give their records, ended, in the order of the inputs."""
        make = self._shell.many(function, options, None)
        started = started_async(
            inputs, lambda n, one: make(one, numbered(idempotency_key, n)), first
        )
        async with aclosing(in_order_async(started, concurrency)) as tasks:
            async for task in tasks:
                yield await task

    async def wait_call(self, call: Call, wait: float | None = None) -> Call:
        """Return the record of a call when it has ended, or after ``wait`` seconds."""
        return await self._shell.perform(self._shell.verbs.wait(call, wait))

    async def call(self, number: int, wait: float = 0.0) -> Call:
        """Return the record of a call, after at most ``wait`` seconds (0 to 300)."""
        return await self._shell.perform(self._shell.verbs.call(number, wait))

    async def calls(self, **query: Unpack[CallQuery]) -> list[Call]:
        """Return records, ascending by number, 100 unless ``limit`` (up to 1000) says more."""
        return await self._shell.perform(self._shell.verbs.calls(query))

    async def iter_calls(self, **query: Unpack[CallQuery]) -> AsyncIterator[Call]:
        """Give records, as many as there are or as ``limit`` says, page after page."""
        page: Mapping[str, Any] | None = dict(query)
        while page is not None:
            calls, page = await self._shell.perform(self._shell.verbs.page(page))
            for call in calls:
                yield call

    async def logs(self, number: int) -> Logs:
        """Return what a call printed beside its result; nothing while it runs."""
        return await self._shell.perform(self._shell.verbs.logs(number))

    async def cancel(self, number: int) -> Call:
        """End a call; return its record as it stands now: not ended yet, if it was running."""
        return await self._shell.perform(self._shell.verbs.cancel(number))

    # --- catalogue ---------------------------------------------------------------------

    async def runtimes(self) -> list[str]:
        """Return the names of the runtimes."""
        return await self._shell.perform(self._shell.verbs.names("runtimes"))

    async def runtime(self, name: str) -> Runtime:
        """Return a runtime."""
        return await self._shell.perform(self._shell.verbs.runtime(name))

    async def register_runtime(self, runtime: Mapping[str, Any]) -> Runtime:
        """Register a runtime, described by the fields of its JSON; or change it."""
        return await self._shell.perform(self._shell.verbs.register_runtime(runtime))

    async def delete_runtime(self, name: str) -> None:
        """Remove a runtime."""
        await self._shell.perform(self._shell.verbs.delete_runtime(name))

    async def functions(self) -> list[str]:
        """Return the names of the functions."""
        return await self._shell.perform(self._shell.verbs.names("functions"))

    async def get_function(self, name: str, revision: int | None = None) -> Function:
        """Return a function, or an older revision of it."""
        return await self._shell.perform(self._shell.verbs.function(name, revision))

    async def revisions(self, name: str) -> list[Function]:
        """Return the revisions of a function, ascending."""
        return await self._shell.perform(self._shell.verbs.revisions(name))

    async def register_function(
        self,
        runtime: str,
        name: str,
        package: Archive,
        *,
        prepare: bool = False,
        on_log: Told | None = None,
        **settings: Unpack[FunctionSettings],
    ) -> Function:
        """Upload an archive (its path, or bytes) as a function, or as a new revision of one."""
        return await self._shell.perform(
            self._shell.verbs.register_function(
                runtime, name, package, settings, prepare=prepare, on_log=on_log
            )
        )

    async def register_image(
        self, name: str, image: str, **settings: Unpack[ImageSettings]
    ) -> Function:
        """Register an image (``name:tag``) as a function, or as a new revision of one."""
        return await self._shell.perform(
            self._shell.verbs.register_image(name, image, settings)
        )

    async def update_function(
        self,
        name: str,
        package: Archive | None = None,
        *,
        prepare: bool = False,
        on_log: Told | None = None,
        **settings: Unpack[FunctionChanges],
    ) -> Function:
        """Change a function's package or settings, None setting one back; the rest stays."""
        return await self._shell.perform(
            self._shell.verbs.update_function(
                name, package, settings, prepare=prepare, on_log=on_log
            )
        )

    async def delete_function(self, name: str) -> None:
        """Remove a function; accepted calls of it still run."""
        await self._shell.perform(self._shell.verbs.delete_function(name))

    async def download_function(
        self, name: str, dest: os.PathLike[str] | str, revision: int | None = None
    ) -> Path:
        """Write the package of a function to the file ``dest``, or into that folder."""
        return Path(await self._shell.perform(self._shell.verbs.download(name, dest, revision)))

    # --- the platform ------------------------------------------------------------------

    async def workers(self) -> list[Worker]:
        """Return the workers that the api knows."""
        return await self._shell.perform(self._shell.verbs.workers())

    async def drain_worker(self, name: str, wait: float | None = 0.0) -> Worker:
        """Give a node nothing new; what runs there finishes, what has not begun goes elsewhere.

        Returns once it is ``drained``, or gone, or after ``wait`` seconds (None: no limit).

        Raises:
            UnknownWorker: there is none of that name.
            Conflict: it is gone.
        """
        return await self._shell.perform(self._shell.verbs.drain_worker(name, wait))

    async def resume_worker(self, name: str) -> Worker:
        """Give a node work again.

        Raises:
            UnknownWorker: there is none of that name.
            Conflict: it is gone.
        """
        return await self._shell.perform(self._shell.verbs.resume_worker(name))

    async def delete_worker(self, name: str) -> None:
        """Forget a node that is gone; calls that waited for word of it end at once.

        Raises:
            UnknownWorker: there is none of that name.
            Conflict: it is here.
        """
        await self._shell.perform(self._shell.verbs.delete_worker(name))

    async def queues(self) -> list[Queue]:
        """Return what waits and runs, of each function revision that has any."""
        return await self._shell.perform(self._shell.verbs.queues())

    async def health(self) -> Health:
        """Return that the api lives, and its version."""
        return await self._shell.perform(self._shell.verbs.health())

    async def versions(self) -> Versions:
        """Return the release and the protocol version of every process."""
        return await self._shell.perform(self._shell.verbs.versions())

    async def metrics(self) -> str:
        """Return the metrics of the api in the text format of Prometheus."""
        return await self._shell.perform(self._shell.verbs.metrics())
