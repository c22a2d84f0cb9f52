"""Backlog: the messages of this process that wait on disk; trouble with the disk is told here, and never raised."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.spool.spool import Kind, Spool, StoredRow
from celery_tasker_events.errors import SpoolFull, SpoolUnusable
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import error_fields, logger

__all__ = ["Backlog", "StoredMessage"]

#: Seconds after which a disk that took nothing is tried again.
PAUSE = 1.0


class StoredMessage(NamedTuple):
    row_id: int
    message: DurableMessage


class Backlog:
    """Not thread-safe: its owner holds a lock.

    Args:
        drop: Called with the known fields of an event that had to make room for a newer one, and why.
    """

    def __init__(self, spool: Spool, counters: Counters, drop: Callable[[Mapping[str, Any], str], None]) -> None:
        self.spool = spool
        #: How many messages wait.
        self.count = 0
        self._counters = counters
        self._drop = drop
        # Who waits for a message. One that has given up waiting is forgotten.
        self._promises: weakref.WeakValueDictionary[int, Confirmation] = weakref.WeakValueDictionary()
        # Rows that are committed, but could not be removed yet.
        self._sent: list[int] = []
        self._paused_until = 0.0
        self._is_broken = False

    def open(self) -> None:
        """Open the file now, so that it is quick when messages must be saved in a hurry."""
        try:
            self.spool.open()
        except SpoolUnusable as error:
            self._tell_broken(error)

    def put(self, messages: Sequence[DurableMessage]) -> list[int]:
        """Append the messages; return their rows' ids. There are none if the disk did not take them."""
        if not messages or time.monotonic() < self._paused_until:
            return []
        try:
            ids, dropped = self.spool.add([message.to_row() for message in messages])
        except (SpoolFull, SpoolUnusable) as error:
            self._tell_broken(error)
            self._paused_until = time.monotonic() + PAUSE
            return []
        self._is_broken = False
        self.count += len(ids)
        for row_id, message in zip(ids, messages, strict=True):
            mode = message.fields.get("delivery_mode", "")
            self._counters.add("spooled", message.fields["event_name"], message.fields["namespace"], mode=mode)
            message.trail.spooled()
            if message.confirmation is not None:
                self._promises[row_id] = message.confirmation
        for event in dropped:
            self._drop({"event_name": event.event_name, "namespace": event.namespace}, "spool full")
        if dropped:
            # They may be another process', as this process' may be dropped by another.
            self.count = self.spool.count(Kind.MESSAGE)
        return ids

    def oldest(self, limit: int, max_bytes: int) -> list[StoredMessage]:
        """Return the oldest messages; none if nothing waits, or the disk can't be read."""
        try:
            rows = self.spool.oldest(limit, max_bytes, without=self._sent)
        except SpoolUnusable as error:
            # What is there waits for this process' next outage, or for the process that adopts it.
            self._tell_broken(error)
            rows = []
        if not rows:
            self.count = 0
        restored = [stored for row in rows if (stored := self._restored(row)) is not None]
        # Where none of them can be read, what is behind them may be.
        return restored if restored or not rows else self.oldest(limit, max_bytes)

    def _restored(self, row: StoredRow) -> StoredMessage | None:
        try:
            message = DurableMessage.from_row(row)
        except (ValueError, KeyError, TypeError) as error:
            # Another version of this package, or another program, has written it: it must not hold up what is behind it.
            logger.warning("A row of the spool can't be read, and is dropped: %r", row, extra=error_fields(error))
            self.forget([row.id])
            self._drop({"event_name": row.event_name, "namespace": row.namespace}, "unreadable in the spool")
            return None
        return StoredMessage(row.id, message._replace(confirmation=self._promises.get(row.id)))

    def forget(self, ids: Sequence[int]) -> None:
        """Remove what is committed."""
        self.count -= len(ids)
        self._sent += ids
        if self._sent:
            try:
                self.spool.remove(self._sent)
            except SpoolUnusable as error:
                # A full disk has no room even for this. They are left out from now on, and removed as soon as it works.
                self._tell_broken(error)
            else:
                self._sent = []

    def adopt(self) -> bool:
        """Take over what dead processes left; return whether there was anything."""
        try:
            if not self.spool.adopt():
                return False
            self.count = self.spool.count(Kind.MESSAGE)
        except SpoolUnusable as error:
            self._tell_broken(error)
            return False
        logger.info("Adopted domain events that a process before this one left in %s", self.spool.path)
        return True

    def tell_left_behind(self) -> None:
        """Log what this process leaves to the one that adopts it."""
        if self.count:
            logger.warning("%d durable domain events stay on disk (%s) for the next process", self.count, self.spool.path)

    def _tell_broken(self, error: SpoolFull | SpoolUnusable) -> None:
        if not self._is_broken:
            self._is_broken = True
            logger.warning("Durable domain events can't wait on disk, only in memory: %s", error, extra=error_fields(error))
