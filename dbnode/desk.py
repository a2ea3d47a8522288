"""One batch of requests after another: decided, committed once, then answered.

Changes are decided on a draft that later requests of the batch see; a request that may not
be leaves the draft as it was. Nothing is answered before the commit, and what only reads is
answered after it, from the committed state.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from dbnode.draft import CHANGES, Draft, needed
from dbnode.readings import Readings
from dbnode.retention import LOOK, Look, Retention
from dbnode.store import Changes, Measures, Store
from wire import errors
from wire.about import about
from wire.counting import Buckets
from wire.models import Model
from wire.records import ListCalls

log = logging.getLogger(__name__)

Answer = Model | errors.SkepError
#: What waits for an answer: a request, or why it is none.
Asking = Model | errors.SkepError


class Desk:
    """Answers requests from a store; everything is called from one thread."""

    def __init__(self, store: Store, version: str, retention: Retention | None = None) -> None:
        self._store = store
        self._readings = Readings(store, version)
        self._retention = retention or Retention()
        #: Where the next look for calls that are no longer kept begins.
        self._looked = 0
        #: How many calls went because they are no longer kept.
        self.expired = 0
        #: How long each commit took, and how many failed.
        self.commits = Buckets()
        self.failed = 0
        #: Why the store could not do the last thing; None: it could.
        self._trouble: str | None = None

    def __repr__(self) -> str:
        return f"<Desk of {self._store!r}>"

    @property
    def is_untidy(self) -> bool:
        """Return whether the store would like to tidy up before the next batch."""
        return self._store.is_untidy

    @property
    def syncs(self) -> Buckets | None:
        """How long the disk took to sync, in seconds; None if there is none."""
        return self._store.syncs

    def measures(self) -> Measures:
        """Return what the store holds, in numbers."""
        store, ledger = self._store, self._store.ledger
        opened, sealed = store.pages()
        return Measures(
            calls=sum(store.counts().values()),
            open_pages=opened,
            sealed_pages=sealed,
            seq=store.catalogue.seq,
            next_call=ledger.next_call,
            epochs=dict(ledger.apis),
        )

    def sizes(self) -> dict[str, int]:
        """Return the bytes of the store by part; the one method for any thread."""
        return self._store.file_sizes()

    def tidy(self) -> None:
        """Let the store do what makes later work cheaper."""
        self._store.tidy()

    def expire(self, now_ms: int) -> bool:
        """Remove some of the calls that are no longer kept; return whether to look on."""
        if not self._retention:
            return False
        look = Look()

        def choose() -> None:
            nonlocal look
            look = self._look(now_ms)
            self._store.prepare(look.gone, ())

        if self._tried(choose) or self._commit(Changes(gone=look.gone)):
            return False
        self.expired += len(look.gone)
        self._looked = look.place
        if look.gone and self._store.is_untidy:
            self._store.tidy()
        return bool(look.place)

    def _look(self, now_ms: int) -> Look:
        self._store.prepare((), ())
        total = sum(self._store.counts().values())
        query = ListCalls(order="asc", limit=LOOK, after=self._looked)
        return self._retention.look(self._store.scan(query), total, now_ms)

    def answer(self, batch: Sequence[Asking]) -> list[Answer]:
        """Answer a batch: its changes first, together, then its reads."""
        answers = self._change(batch)
        for index, request in enumerate(batch):
            if isinstance(request, errors.SkepError):
                answers[index] = request
            elif not isinstance(request, CHANGES):
                answers[index] = _guarded(self._readings.read, request)
        return [answers[index] for index in range(len(batch))]

    def _change(self, batch: Sequence[Asking]) -> dict[int, Answer]:
        """Decide the changes of a batch and make them durable; all fail if that does."""
        asked = {n: each for n, each in enumerate(batch) if isinstance(each, CHANGES)}
        failed = self._tried(lambda: self._store.prepare(*needed(batch)))
        if failed is not None:
            return dict.fromkeys(asked, failed)
        draft = Draft(self._store)
        answers = {n: _guarded(draft.change, request) for n, request in asked.items()}
        failed = self._commit(draft.changes())
        return answers if failed is None else dict.fromkeys(asked, failed)

    def _commit(self, changes: Changes) -> errors.SkepError | None:
        if not changes:
            return None
        begun = time.perf_counter()
        failed = self._tried(lambda: self._store.commit(changes))
        self.commits.observe(time.perf_counter() - begun)
        self.failed += failed is not None
        if failed is None and self._trouble is not None:
            log.info("the store takes changes again")
            self._trouble = None
        return failed

    def _tried(self, work: Callable[[], None]) -> errors.SkepError | None:
        """Return why the store could not do something; None if it could."""
        try:
            work()
        except errors.StoreUnavailable as error:
            # What cannot be done is asked for again at once, for as long as a disk is full.
            if error.message != self._trouble:
                log.error("%s (%s)", error.message, error.hint)
            self._trouble = error.message
            return error
        except Exception:
            log.exception("a batch could not be committed")
            return errors.SkepError(
                "the DB node failed to record this; nothing was changed",
                hint="its log has the details; this is a defect of skep or a damaged store",
            )
        return None


def _guarded(work: Callable[[Any], Model], request: Model) -> Answer:
    """Return what a request comes to; one that fails must not fail its neighbours."""
    try:
        return work(request)
    except errors.SkepError as error:
        return error
    except Exception:
        told = about(call=getattr(request, "call_num", None))
        log.exception("%s could not be answered", type(request).__name__, extra=told)
        return errors.SkepError(
            f"the DB node failed at this {type(request).__name__}",
            hint="its log has the details; this is a defect of skep or a damaged store",
        )
