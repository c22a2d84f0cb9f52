"""Overflow: durable outcomes that the channel has no room for, or no time, wait in the spool and come back in order.

While anything of this process waits there, all that follows goes the same way: otherwise it would overtake.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.declaration import EventDeclaration
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.spool.spool import Added, Kind, Spool, SpooledEvent, SpoolRow, StoredRow
from celery_tasker_events.errors import ConfigurationError, SpoolFull, SpoolUnusable
from celery_tasker_events.event import queue_name
from celery_tasker_events.pipeline import Publication
from celery_tasker_events.record import EventReference, Record, to_rows
from celery_tasker_events.router import DurablePath
from celery_tasker_events.telemetry.log import RateLimitedWarning, error_fields, failure_fields, logger
from celery_tasker_events.threads import start_thread

__all__ = ["Overflow", "StoredPublication"]

#: How many outcomes are written, or read back, at once.
BATCH = 200


class StoredPublication(NamedTuple):
    """One that is on disk; its publication is None if its event is not declared any more."""

    row_id: int
    publication: Publication | None


class Overflow:
    """Takes publications on the task's thread without waiting; a thread of its own, started with the first, writes them.

    Args:
        buffer_size: How many may wait for the disk.
        find: Finds a declared event again; raises ConfigurationError if the app has no such event any more.
        durable: Where the dead letter of such an event goes.
        wake: Called when there is something to take; on any thread.
        drop: Called with what neither the disk nor the memory has room for, and why.
        drop_stored: Called with what was on disk and is dropped, and why.
        on_depth: Called whenever :meth:`depth` has changed, on any thread, with a lock held that it may take, too.
    """

    def __init__(
        self,
        spool: Spool,
        buffer_size: int,
        find: Callable[[EventReference], BoundEvent],
        durable: DurablePath,
        wake: Callable[[], None],
        drop: Callable[[Publication, str], None],
        drop_stored: Callable[[SpooledEvent, str], None],
        on_depth: Callable[[], None] = lambda: None,
    ) -> None:
        self._spool = spool
        self._buffer_size = buffer_size
        self._find = find
        self._durable = durable
        self._wake = wake
        self._drop = drop
        self._drop_stored = drop_stored
        self._on_depth = on_depth
        # The task's thread takes this lock, so whoever holds it never waits for the disk; ``_disk`` is taken before it.
        self._changed = threading.Condition(threading.RLock())
        self._disk = threading.RLock()
        self._waiting: deque[Publication] = deque()
        self._writing = 0
        self._on_disk = 0
        #: Rows that are published, but could not be removed yet.
        self._done: list[int] = []
        self._promises: weakref.WeakValueDictionary[int, Confirmation] = weakref.WeakValueDictionary()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._trouble = RateLimitedWarning("%d times the outcomes on disk could not be used: %s")
        #: Whether anything waits here. The task's thread reads it without the lock.
        self.is_used = False

    def add(self, publication: Publication) -> bool:
        """Take over the durable events of a publication; return False if there is no room."""
        with self._changed:
            if self._closing or len(self._waiting) >= self._buffer_size:
                return False
            self.is_used = True
            self._waiting.append(publication)
            self._on_depth()
            if self._thread is None:
                self._thread = start_thread(self._run, "tasker-events-overflow")
            self._changed.notify_all()
            return True

    def save(self, publications: Sequence[Publication]) -> bool:
        """Write these, before what waits here, and all of that, on the caller's thread; return whether the disk took these."""
        if self._write(publications, first=True) is not None:
            return False
        with self._changed:
            self._changed.wait_for(lambda: not self._writing)
            waiting = list(self._waiting)
            self._waiting.clear()
            self._writing = len(waiting)
        refused = self._write(waiting)
        with self._changed:
            if refused is not None:
                self._waiting.extendleft(reversed(waiting))
            self._writing = 0
            self._tell_change()
        self._wake()
        return True

    def adopt(self) -> None:
        """Look again for what is on disk: there is more of it now."""
        with self._disk:
            on_disk = self._spool.count(Kind.OUTCOME)
            with self._changed:
                self._on_disk = on_disk
                self._tell_change()
        self._wake()

    def depth(self) -> int:
        """How many wait."""
        with self._changed:
            return len(self._waiting) + self._writing + self._on_disk

    def take(self) -> list[StoredPublication]:
        """Return the oldest that are on disk; :meth:`done` forgets them."""
        with self._disk:
            rows: list[StoredRow] = []
            try:
                if self._on_disk:
                    rows = self._spool.oldest(BATCH, kind=Kind.OUTCOME, without=self._done)
            except SpoolUnusable as error:
                self._trouble.add(error, fields=functools.partial(error_fields, error))
            if not rows:
                with self._changed:
                    # What can't be read now waits for the process that adopts it.
                    self._on_disk = 0
                    self._tell_change()
        return [StoredPublication(row.id, self._restored(row)) for row in rows]

    def done(self, taken: Sequence[StoredPublication]) -> None:
        """Forget what was published."""
        with self._disk:
            self._done += [stored.row_id for stored in taken]
            try:
                self._spool.remove(self._done)
            except SpoolUnusable as error:
                self._trouble.add(error, fields=functools.partial(error_fields, error))
            else:
                self._done = []
            with self._changed:
                self._on_disk -= len(taken)
                self._on_depth()

    def close(self) -> None:
        """End the thread; what waits in memory is written before."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                self._writing = len(batch)
            refused = self._try_to_write(batch)
            with self._changed:
                self._writing = 0
                self._on_depth()
                self._changed.notify_all()
            self._wake()
            if refused is not None:
                self._trouble.add(refused, fields=functools.partial(error_fields, refused))
                for publication in batch:
                    self._drop(publication, "spool full" if isinstance(refused, SpoolFull) else "spool unusable")

    def _try_to_write(self, publications: Sequence[Publication]) -> Exception | None:
        try:
            return self._write(publications)
        except Exception as error:  # nothing may end this thread: later events would be lost
            logger.exception("Outcomes could not be put on disk", extra=error_fields(error))
            return error

    def _write(self, publications: Sequence[Publication], *, first: bool = False) -> SpoolFull | SpoolUnusable | None:
        """Put them on disk, behind or before what is there; return why that failed, if it did."""
        rows: list[SpoolRow] = []
        confirmations: list[Confirmation | None] = []
        for publication in publications:
            own = list(to_rows(publication.outcome, publication.events, publication.event_id, publication.idempotency_key))
            rows += own
            confirmations += [publication.confirmation] * len(own)
        with self._disk:
            try:
                ids, dropped = self._spool.add(rows, Kind.OUTCOME, first=first) if rows else Added([], [])
                # What made room may be another process', as this process' may be dropped by another.
                on_disk = self._spool.count(Kind.OUTCOME) if dropped else self._on_disk + len(ids)
            except (SpoolFull, SpoolUnusable) as error:
                return error
            with self._changed:
                self._on_disk = on_disk
                for row_id, confirmation in zip(ids, confirmations, strict=True):
                    if confirmation is not None:
                        self._promises[row_id] = confirmation
        for event in dropped:
            self._drop_stored(event, "spool full")
        return None

    def _tell_change(self) -> None:
        self.is_used = bool(self._waiting or self._writing or self._on_disk)
        self._changed.notify_all()
        self._on_depth()

    def _restored(self, row: StoredRow) -> Publication | None:
        try:
            record = Record.of(row.content)
        except (ValueError, KeyError, TypeError) as error:
            # Another version of this package, or another program, has written it: it must not hold up what is behind it.
            logger.warning("A row of the spool can't be read, and is dropped: %r", row, extra=error_fields(error))
            self._drop_stored(SpooledEvent(row.event_name, row.namespace), "unreadable in the spool")
            return None
        try:
            bound = self._find(record.event)
        except ConfigurationError as error:
            self._park(record, error)
            return None
        confirmation = self._promises.get(row.id)
        return Publication(record.outcome, (bound,), record.event_id, record.idempotency_key, confirmation)

    def _park(self, record: Record, error: ConfigurationError) -> None:
        event, outcome = record.event, record.outcome
        fields = {
            "event_id": record.event_id,
            "event_name": event.event_name,
            "queue_name": queue_name(event.namespace),
            "task_uuid": outcome.task_uuid,
            "step_uuid": outcome.step_uuid,
            "correlation_id": outcome.correlation_id,
            "namespace": event.namespace,
        }
        logger.warning(
            "Domain event %s from the spool is not declared any more; it is parked as a dead letter",
            event.event_name,
            extra=failure_fields(fields, error),
        )
        declared = {"name": event.event_name, "condition": event.condition, "delivery_mode": event.delivery_mode}
        payload = outcome.result.json.decode()
        declaration = EventDeclaration.from_mapping(declared)
        kept = record.text()
        letter = DurableMessage.dead_letter(declaration, event.namespace, "spool", error, payload, fields, outcome_text=kept)
        self._durable.send(letter)
