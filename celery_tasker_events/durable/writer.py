"""The writer thread: commits whatever has gathered while the last commit was in flight; on an outage, by way of the spool.

==========  =========================  ==============================================================================
state       a message that is sent      the thread
==========  =========================  ==============================================================================
direct      waits in memory             commits what waits, as one batch
spooling    waits on disk               commits what this process has on disk, oldest first, until nothing is left there
==========  =========================  ==============================================================================

It goes from direct to spooling when Postgres can't be used, when a commit takes too long, when the memory's share is full, and at
the end of the process: all that waits, and what is in flight, goes to disk first. It comes back when the disk is empty. Where
the disk can't be used either, messages wait in memory.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from psycopg_pool import ConnectionPool, PoolTimeout

from celery_tasker_events import chance
from celery_tasker_events.durable.backlog import Backlog
from celery_tasker_events.durable.committing import Committer, Unavailable, settle
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.durable.spool.spool import Spool
from celery_tasker_events.errors import PublishingError
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.gauge import ConnectionState, is_worth_telling
from celery_tasker_events.telemetry.log import RateLimitedWarning, dropped_fields, error_fields, failure_fields, logger
from celery_tasker_events.threads import Sleep, join_thread, start_thread, unsignalled

__all__ = ["DurableWriter"]

#: A batch is bounded, so that one statement stays small beside Postgres' 1 GB limit on a value.
MAX_BATCH_MESSAGES = 500
MAX_BATCH_BYTES = 8 * 1024 * 1024

#: Seconds between attempts while Postgres can't be used: doubled from the first to the last, less up to half at random.
FIRST_BACKOFF = 0.1
LAST_BACKOFF = 5.0

#: Seconds after which a commit is taken for one that may never return: what waits behind it goes to disk.
STALLED = 1.0


class DurableWriter:
    """Accepts serialised messages without waiting, and commits them to PGMQ on its own thread.

    Args:
        make_pool: Called on the thread that starts the writer's.
        buffer_size: How many messages may wait in memory; what comes beyond goes to the spool, or is dropped, counted and
            logged where there is none.
        spool: None: there is none.
        adopted: Called on the writer's thread when it has adopted events that a dead process left in the spool.
        on_depth: Called when :meth:`depth` has changed and is worth telling, on any thread.
        on_connection: Called whenever ``connection`` may have changed, on any thread; it may not wait.

    Attributes:
        connection: How the last attempt to reach Postgres went.
    """

    def __init__(
        self,
        make_pool: Callable[[], ConnectionPool[Connection]],
        buffer_size: int,
        counters: Counters,
        *,
        log_dropped: bool,
        spool: Spool | None = None,
        adopted: Callable[[], None] = lambda: None,
        on_depth: Callable[[], None] = lambda: None,
        on_connection: Callable[[], None] = lambda: None,
    ) -> None:
        self._committer = Committer(make_pool, counters)
        self._buffer_size = buffer_size
        self._counters = counters
        self._backlog = None if spool is None else Backlog(spool, counters, self._count_dropped)
        self._adopted = adopted
        self._on_depth = on_depth
        self._on_connection = on_connection
        self._dropped = RateLimitedWarning("%d durable events dropped: %s") if log_dropped else None
        self._changed = threading.Condition()
        self._thread_sleeps = Sleep(self._changed)
        self._waiting: deque[DurableMessage] = deque()
        self._in_flight: Sequence[DurableMessage] = ()
        self._in_flight_since = 0.0
        # Where the messages in flight are on disk too, once they had to be saved.
        self._in_flight_rows: list[int] = []
        self._is_spooling = False
        self._thread: threading.Thread | None = None
        self._is_to_adopt = True
        self._is_to_rest = False
        self._is_ending = False
        self._closing = False
        self._stopping = threading.Event()
        self._is_down = False
        self.connection = ConnectionState.UNUSED
        self._trouble: Exception | None = None

    def prepare(self) -> None:
        """Start the thread and the pool's threads on the caller's thread."""
        if not self._is_started():  # without the lock: its holder may be waiting for the disk
            with self._changed:
                if not self._closing:
                    self._start()

    def start(self) -> None:
        """Look, on the thread, for what dead processes left in the spool; that starts the thread."""
        with self._changed:
            self._is_to_adopt = True
            self._start()
            self._thread_sleeps.end()

    def send(self, message: DurableMessage) -> None:
        """Queue the message; it is committed soon."""
        with self._changed:
            if not self._closing:
                self._start()
                if len(self._waiting) >= self._buffer_size:
                    self._save()
                # What waits in memory although there is a spool found no room there, and comes first.
                if (self._is_spooling or self._is_ending) and not self._waiting and self._put_on_disk(message):
                    self._on_depth()
                    return
                if len(self._waiting) < self._buffer_size:
                    self._waiting.append(message)
                    self._thread_sleeps.end()
                    if is_worth_telling(len(self._waiting)):
                        self._on_depth()
                    return
        self._drop(message, "closed" if self._closing else "durable buffer full")

    def depth(self) -> int:
        """How many messages of this process are not committed yet, on disk or not."""
        with self._changed:
            return len(self._waiting) + self._count_on_disk() + (0 if self._in_flight_rows else len(self._in_flight))

    def watch(self) -> float | None:
        """Save what waits if the commit in flight does not return; where nothing waits, let go of the connection.

        Returns:
            After how many seconds to look again; None if nothing is in flight.
        """
        with self._changed:
            if not self._in_flight and not self._waiting:
                if not self._committer.rests:
                    self._is_to_rest = True
                    self._thread_sleeps.end()
                return None
            if not self._in_flight or self._is_spooling:
                return STALLED
            left = self._in_flight_since + STALLED - time.monotonic()
            if left > 0:
                return left
            self._save()
            self._tell_down(f"a commit takes longer than {STALLED:g} s")
            return STALLED

    def save(self) -> None:
        """Put all that is not committed yet on disk, and all that comes from now on: the process may be killed at any moment."""
        with self._changed:
            self._is_ending = True
            self._save()

    def drain(self, timeout: float) -> bool:
        """Wait up to that many seconds until all that was sent is committed; return whether it is."""
        with self._changed:
            return self._changed.wait_for(self._is_done, timeout)

    def close(self, timeout: float) -> bool:
        """Drain, then end the thread and close the pool; return whether all is committed.

        What is on disk is not waited for while Postgres is away.
        """
        deadline = time.monotonic() + timeout
        self.save()
        with self._changed:
            self._changed.wait_for(lambda: self._is_done() or self._is_safe_for_later(), timeout)
            drained = self._is_done()
            self._closing = True
            self._thread_sleeps.end()
        self._stopping.set()
        if self._thread is not None:
            join_thread(self._thread, max(0.0, deadline - time.monotonic()))
        if self._backlog is not None:
            self._backlog.tell_left_behind()
        return drained

    def _is_done(self) -> bool:
        return not (self._waiting or self._in_flight or self._count_on_disk())

    def _count_on_disk(self) -> int:
        return 0 if self._backlog is None else self._backlog.count

    def _is_safe_for_later(self) -> bool:
        return self._is_down and self._is_spooling and not self._waiting

    def _is_started(self) -> bool:
        return self._thread is not None

    def _start(self) -> None:
        if not self._is_started():
            with unsignalled():
                self._committer.prepare()
                self._thread = start_thread(self._run, "tasker-events-writer")

    def _run(self) -> None:
        try:
            if self._backlog is not None:
                self._backlog.open()
            while not self._stopping.is_set() and not (self._closing and self._is_done()):
                try:
                    self._work()
                except Exception as error:  # nothing may end this thread: later events would be lost
                    logger.exception("The writer failed; its events are tried again", extra=error_fields(error))
                    self._take_back()
                    self._stopping.wait(LAST_BACKOFF)
        finally:
            self._abandon()
            self._committer.close()
            if self._backlog is not None:
                self._backlog.spool.close()

    def _work(self) -> None:
        if self._is_to_adopt:
            self._adopt()
        if self._is_spooling:
            self._send_from_disk()
        elif batch := self._take():
            self._send_from_memory(batch)

    def _take_back(self) -> None:
        with self._changed:
            if not self._in_flight_rows:
                self._waiting.extendleft(reversed(self._in_flight))
            self._in_flight, self._in_flight_rows = (), []

    def _take(self) -> list[DurableMessage]:
        with self._changed:
            while not (self._waiting or self._closing or self._is_spooling or self._is_to_adopt):
                if self._is_to_rest:
                    self._is_to_rest = False
                    self._committer.rest()
                self._thread_sleeps.begin()
            batch: list[DurableMessage] = []
            size = 0
            while not self._is_spooling and self._waiting and len(batch) < MAX_BATCH_MESSAGES and size < MAX_BATCH_BYTES:
                message = self._waiting.popleft()
                batch.append(message)
                size += len(message.body)
            self._in_flight, self._in_flight_since = batch, time.monotonic()
            return batch

    def _send_from_memory(self, batch: Sequence[DurableMessage]) -> None:
        backoffs, is_first = chance.backoffs(FIRST_BACKOFF, LAST_BACKOFF), True
        while batch and not self._stopping.is_set():
            trouble = self._commit(batch)
            with self._changed:
                batch = self._in_flight
                if trouble is None:
                    continue
                # A connection that died while it was idle is found dead only now: another one may do.
                if is_first and not isinstance(trouble, PoolTimeout):
                    is_first = False
                    continue
                self._save()
                self._tell_down(trouble)
                if self._is_spooling:
                    return
            self._stopping.wait(next(backoffs))

    def _send_from_disk(self) -> None:
        backoffs = chance.backoffs(FIRST_BACKOFF, LAST_BACKOFF)
        while not self._stopping.is_set() and (batch := self._take_from_disk()):
            trouble = self._commit(batch)
            if trouble is None:
                backoffs = chance.backoffs(FIRST_BACKOFF, LAST_BACKOFF)
            else:
                with self._changed:
                    self._tell_down(trouble)
                self._stopping.wait(next(backoffs))

    def _take_from_disk(self) -> Sequence[DurableMessage]:
        """Take the oldest batch from the disk; where nothing is left there, go on from memory."""
        assert self._backlog is not None
        with self._changed:
            stored = self._backlog.oldest(MAX_BATCH_MESSAGES, MAX_BATCH_BYTES)
            if not stored:
                # Nobody may watch: what dead processes have left comes from the disk without an event of this one's.
                self._is_to_rest = True
                self._is_spooling = False
                self._changed.notify_all()
            self._in_flight = [message for _, message in stored]
            self._in_flight_rows = [row_id for row_id, _ in stored]
            self._in_flight_since = time.monotonic()
            self._on_depth()
            return self._in_flight

    def _commit(self, batch: Sequence[DurableMessage]) -> Exception | None:
        """Commit the batch in flight, or as much of it as goes; return what kept the rest."""
        settled = len(batch)
        trouble: Exception | None = None
        try:
            self._committer.commit(batch)
        except Unavailable as error:
            settled, trouble = error.settled, error.reason
            self._trouble = trouble
        with self._changed:
            if settled:
                self._tell_up()
            if self._backlog is not None:
                self._backlog.forget(self._in_flight_rows[:settled])
            self._in_flight, self._in_flight_rows = self._in_flight[settled:], self._in_flight_rows[settled:]
            self._changed.notify_all()
            self._on_depth()
        return trouble

    def _save(self) -> None:
        """With the lock held: go over to spooling, if the disk takes all that is not committed yet."""
        if self._backlog is None:
            return
        in_flight = () if self._in_flight_rows else self._in_flight
        ids = self._backlog.put([*in_flight, *self._waiting])
        if ids:
            self._in_flight_rows = self._in_flight_rows or ids[: len(in_flight)]
            self._waiting.clear()
            self._is_spooling = True
            self._changed.notify_all()
            self._thread_sleeps.end()

    def _put_on_disk(self, message: DurableMessage) -> bool:
        if self._backlog is None or not self._backlog.put([message]):
            return False
        self._is_spooling = True
        self._changed.notify_all()
        self._thread_sleeps.end()
        return True

    def _adopt(self) -> None:
        self._is_to_adopt = False
        if self._backlog is not None:
            with self._changed:
                if not self._backlog.adopt():
                    return
                self._is_spooling = True
                self._on_depth()
            self._adopted()

    def _abandon(self) -> None:
        with self._changed:
            lost = [*(() if self._in_flight_rows else self._in_flight), *self._waiting]
            self._in_flight, self._waiting = (), deque()
            self._on_depth()
        error = self._trouble or PublishingError("the process ended before it could be sent")
        for message in lost:
            settle(message, kept=False)
            self._count("failed", message.fields, "shutdown")
            message.trail.failed("shutdown", error)
            extra = failure_fields(message.fields, error)
            logger.warning("Domain event lost: Postgres could not be reached before the process ended", extra=extra)

    def _drop(self, message: DurableMessage, reason: str) -> None:
        settle(message, kept=False)
        message.trail.failed(reason)
        self._count_dropped(message.fields, reason)

    def _count(self, name: str, fields: Mapping[str, Any], reason: str) -> None:
        self._counters.add(name, fields["event_name"], fields["namespace"], reason, mode=fields.get("delivery_mode", ""))

    def _count_dropped(self, fields: Mapping[str, Any], reason: str) -> None:
        self._count("dropped", fields, reason)
        if self._dropped:
            self._dropped.add(reason, fields=lambda: dropped_fields(fields, reason))

    def _tell_down(self, trouble: Exception | str) -> None:
        """Log the change between reachable and not, never each attempt."""
        self._set_connection(ConnectionState.DOWN)
        if not self._is_down:
            self._is_down = True
            place = f"on disk ({self._backlog.spool.path})" if self._backlog is not None and self._is_spooling else "in memory"
            told = trouble if isinstance(trouble, str) else f"{type(trouble).__name__}: {trouble}"
            extra = None if isinstance(trouble, str) else error_fields(trouble)
            logger.warning("Durable domain events wait %s: %s", place, told, extra=extra)

    def _tell_up(self) -> None:
        self._set_connection(ConnectionState.CONNECTED)
        if self._is_down:
            self._is_down = False
            self._is_to_adopt = True
            logger.warning("Durable domain events are published again")

    def _set_connection(self, state: ConnectionState) -> None:
        if state is not self.connection:
            self.connection = state
            self._on_connection()
