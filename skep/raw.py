"""The verbs of the synchronous client that give records: what HTTP says, nothing added."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Unpack

from skep.ahead import in_order
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
from skep.shells import Shell
from skep.values import NO_PARAMS, numbered
from skep.verbs import Told


class RawVerbs:
    """The verbs that give records."""

    _shell: Shell

    # --- calls -------------------------------------------------------------------------

    def submit_call(
        self,
        function: str,
        params: Any = NO_PARAMS,
        *,
        wait: float | None = 0.0,
        idempotency_key: str | None = None,
        **options: Unpack[CallSettings],
    ) -> Call:
        """Make a call and return its record: at once, or as it stands after ``wait`` seconds.

        With ``wait=None`` it is returned when the call has ended, however it ended. Params are
        any JSON; ``options`` are spelled as in HTTP. The same ``idempotency_key`` with the
        same params answers the first call again; without one a random one is sent.

        Raises:
            UnknownFunction: there is none of that name, or not that revision.
            QueueFull: too many calls wait.
            Unavailable: there is no worker, or no store.
            Conflict: the key was used for another call.
        """
        return self._shell.perform(
            self._shell.verbs.submit(
                function, params, wait=wait, key=idempotency_key, settings=options
            )
        )

    def map_calls(
        self,
        function: str,
        inputs: Iterable[Any],
        *,
        concurrency: int = 16,
        idempotency_key: str | None = None,
        first: int = 0,
        **options: Unpack[CallSettings],
    ) -> Generator[Call, None, None]:
        """Make a call of each input; give their records, ended, in the order of the inputs.

        As ``FunctionHandle.map``, but a call that did not end DONE is a record as any other.
        With a key the calls have the keys ``KEY:first``, ``KEY:first+1`` …: so one may go on
        with the inputs whose records are not there yet.

        Raises:
            SkepError: a call was not accepted; at its place.
        """
        begin = self._shell.many(function, options, None)
        numbered_inputs = enumerate(inputs, first)
        started = (begin(one, numbered(idempotency_key, n)) for n, one in numbered_inputs)
        with closing(in_order(started, concurrency)) as futures:
            for future in futures:
                yield future.result()

    def wait_call(self, call: Call, wait: float | None = None) -> Call:
        """Return the record of a call when it has ended, or after ``wait`` seconds.

        It asks in steps of at most a minute, and goes on asking through a restart of skep.
        """
        return self._shell.perform(self._shell.verbs.wait(call, wait))

    def call(self, number: int, wait: float = 0.0) -> Call:
        """Return the record of a call, waiting for its end up to ``wait`` seconds (0 to 300).

        Raises:
            UnknownCall: there is none of that number.
        """
        return self._shell.perform(self._shell.verbs.call(number, wait))

    def calls(self, **query: Unpack[CallQuery]) -> list[Call]:
        """Return records, ascending by number, 100 unless ``limit`` (up to 1000) says more."""
        return self._shell.perform(self._shell.verbs.calls(query))

    def iter_calls(self, **query: Unpack[CallQuery]) -> Iterator[Call]:
        """Give records, as many as there are or as ``limit`` says, page after page."""
        page: Mapping[str, Any] | None = dict(query)
        while page is not None:
            calls, page = self._shell.perform(self._shell.verbs.page(page))
            yield from calls

    def logs(self, number: int) -> Logs:
        """Return what a call printed beside its result; nothing while it runs.

        Raises:
            UnknownCall: there is none of that number.
        """
        return self._shell.perform(self._shell.verbs.logs(number))

    def cancel(self, number: int) -> Call:
        """End a call; return its record as it stands now: not ended yet, if it was running.

        Raises:
            UnknownCall: there is none of that number.
        """
        return self._shell.perform(self._shell.verbs.cancel(number))

    # --- catalogue ---------------------------------------------------------------------

    def runtimes(self) -> list[str]:
        """Return the names of the runtimes."""
        return self._shell.perform(self._shell.verbs.names("runtimes"))

    def runtime(self, name: str) -> Runtime:
        """Return a runtime.

        Raises:
            UnknownRuntime: there is none of that name.
        """
        return self._shell.perform(self._shell.verbs.runtime(name))

    def register_runtime(self, runtime: Mapping[str, Any]) -> Runtime:
        """Register a runtime, described by the fields of its JSON; or change it.

        Raises:
            BadRequest: a field is unknown, or its value cannot be.
        """
        return self._shell.perform(self._shell.verbs.register_runtime(runtime))

    def delete_runtime(self, name: str) -> None:
        """Remove a runtime.

        Raises:
            UnknownRuntime: there is none of that name.
            Conflict: a function uses it.
        """
        self._shell.perform(self._shell.verbs.delete_runtime(name))

    def functions(self) -> list[str]:
        """Return the names of the functions."""
        return self._shell.perform(self._shell.verbs.names("functions"))

    def get_function(self, name: str, revision: int | None = None) -> Function:
        """Return a function, or an older revision of it.

        Raises:
            UnknownFunction: there is none of that name, or not that revision.
        """
        return self._shell.perform(self._shell.verbs.function(name, revision))

    def revisions(self, name: str) -> list[Function]:
        """Return the revisions of a function, ascending.

        Raises:
            UnknownFunction: there is none of that name.
        """
        return self._shell.perform(self._shell.verbs.revisions(name))

    def register_function(
        self,
        runtime: str,
        name: str,
        package: Archive,
        *,
        prepare: bool = False,
        on_log: Told | None = None,
        **settings: Unpack[FunctionSettings],
    ) -> Function:
        """Upload an archive (its path, or bytes) as a function, or as a new revision of one.

        A file is read piece by piece, however large. With ``prepare`` the dependencies are
        installed first, and nothing is changed if that fails; ``on_log`` is given the
        installer's output as it comes. Settings are spelled as in HTTP.

        Raises:
            UnknownRuntime: there is no such runtime.
            BadRequest: the archive or a setting is refused; the message says why.
            InstallFailed: the dependencies cannot be installed (``prepare``).
        """
        return self._shell.perform(
            self._shell.verbs.register_function(
                runtime, name, package, settings, prepare=prepare, on_log=on_log
            )
        )

    def register_image(
        self, name: str, image: str, **settings: Unpack[ImageSettings]
    ) -> Function:
        """Register an image (``name:tag``) as a function, or as a new revision of one.

        A call's params are its arguments; with ``contract="http"`` the image is a server,
        and they are what it is sent. Settings are spelled as in HTTP; those that are
        about code are refused.

        Raises:
            BadRequest: a setting is refused; the message names it.
        """
        return self._shell.perform(self._shell.verbs.register_image(name, image, settings))

    def update_function(
        self,
        name: str,
        package: Archive | None = None,
        *,
        prepare: bool = False,
        on_log: Told | None = None,
        **settings: Unpack[FunctionChanges],
    ) -> Function:
        """Change a function's package or settings, None setting one back; the rest stays.

        Raises:
            UnknownFunction: there is none of that name.
            BadRequest, InstallFailed: as ``register_function``.
        """
        return self._shell.perform(
            self._shell.verbs.update_function(
                name, package, settings, prepare=prepare, on_log=on_log
            )
        )

    def delete_function(self, name: str) -> None:
        """Remove a function; accepted calls of it still run.

        Raises:
            UnknownFunction: there is none of that name.
        """
        self._shell.perform(self._shell.verbs.delete_function(name))

    def download_function(
        self, name: str, dest: os.PathLike[str] | str, revision: int | None = None
    ) -> Path:
        """Write the package of a function to the file ``dest``, or into that folder.

        The file appears when it is whole; one that was there stays until then.

        Raises:
            UnknownFunction: there is none of that name, or not that revision.
        """
        return Path(self._shell.perform(self._shell.verbs.download(name, dest, revision)))

    # --- the platform ------------------------------------------------------------------

    def workers(self) -> list[Worker]:
        """Return the workers that the api knows."""
        return self._shell.perform(self._shell.verbs.workers())

    def drain_worker(self, name: str, wait: float | None = 0.0) -> Worker:
        """Give a node nothing new; what runs there finishes, what has not begun goes elsewhere.

        Returns once it is ``drained``, or gone, or after ``wait`` seconds (None: no limit).

        Raises:
            UnknownWorker: there is none of that name.
            Conflict: it is gone.
        """
        return self._shell.perform(self._shell.verbs.drain_worker(name, wait))

    def resume_worker(self, name: str) -> Worker:
        """Give a node work again.

        Raises:
            UnknownWorker: there is none of that name.
            Conflict: it is gone.
        """
        return self._shell.perform(self._shell.verbs.resume_worker(name))

    def delete_worker(self, name: str) -> None:
        """Forget a node that is gone; calls that waited for word of it end at once.

        Raises:
            UnknownWorker: there is none of that name.
            Conflict: it is here.
        """
        self._shell.perform(self._shell.verbs.delete_worker(name))

    def queues(self) -> list[Queue]:
        """Return what waits and runs, of each function revision that has any."""
        return self._shell.perform(self._shell.verbs.queues())

    def health(self) -> Health:
        """Return that the api lives, and its version."""
        return self._shell.perform(self._shell.verbs.health())

    def versions(self) -> Versions:
        """Return the release and the protocol version of every process."""
        return self._shell.perform(self._shell.verbs.versions())

    def metrics(self) -> str:
        """Return the metrics of the api in the text format of Prometheus."""
        return self._shell.perform(self._shell.verbs.metrics())
