"""The writer thread: commits whatever has gathered while the last commit was in flight as one batch."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import errors
from psycopg_pool import ConnectionPool, PoolTimeout

from celery_tasker_events import values
from celery_tasker_events.durable import sql
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.queues import Connection, create_queues
from celery_tasker_events.errors import PgmqMissing, PublishingError
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import RateLimitedWarning, dropped_fields, error_fields, failure_fields, logger

__all__ = ["DurableWriter"]

#: A batch is bounded, so that one statement stays small beside Postgres' 1 GB limit on a value.
MAX_BATCH_MESSAGES = 500
MAX_BATCH_BYTES = 8 * 1024 * 1024

#: Seconds between attempts while Postgres can't be used: doubled from the first to the last, less up to half at random.
FIRST_BACKOFF = 0.1
LAST_BACKOFF = 5.0

#: Trouble that waiting, or an administrator, can mend: the batch is kept and tried again.
TRANSIENT = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeout,
    PgmqMissing,
    errors.InsufficientPrivilege,
    errors.ReadOnlySqlTransaction,
    errors.UndefinedFunction,
)


class DurableWriter:
    """Accepts serialised messages without waiting, and commits them to PGMQ on its own thread.

    Args:
        make_pool: Called on the writer's thread when the first message comes.
        buffer_size: How many messages may wait; what comes beyond is dropped, counted and logged.
    """

    def __init__(
        self, make_pool: Callable[[], ConnectionPool[Connection]], buffer_size: int, counters: Counters, *, log_dropped: bool
    ) -> None:
        self._make_pool = make_pool
        self._buffer_size = buffer_size
        self._counters = counters
        self._dropped = RateLimitedWarning("%d durable events dropped: the buffer for Postgres is full") if log_dropped else None
        self._waiting: deque[DurableMessage] = deque()
        self._in_flight = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._stopping = threading.Event()
        self._pool: ConnectionPool[Connection] | None = None
        self._is_down = False

    def send(self, message: DurableMessage) -> None:
        """Queue the message; it is committed soon."""
        with self._changed:
            if len(self._waiting) < self._buffer_size and not self._closing:
                self._waiting.append(message)
                if self._thread is None:
                    self._start()
                self._changed.notify_all()
                return
        _settle(message, kept=False)
        message.trail.failed("durable buffer full")
        self._counters.add("dropped", message.fields["event_name"], message.fields["namespace"], "durable buffer full")
        if self._dropped:
            self._dropped.add(fields=lambda: dropped_fields(message.fields, "durable buffer full"))

    def depth(self) -> int:
        """How many messages wait or are in flight."""
        with self._changed:
            return len(self._waiting) + self._in_flight

    def drain(self, timeout: float) -> bool:
        """Wait up to that many seconds until all that was sent is committed; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._in_flight, timeout)

    def close(self, timeout: float) -> bool:
        """Drain, then end the thread and close the pool; return whether nothing was left behind."""
        deadline = time.monotonic() + timeout
        drained = self.drain(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        return drained

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="tasker-events-writer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while batch := self._take():
                self._commit_sooner_or_later(batch)
                with self._changed:
                    self._in_flight = 0
                    self._changed.notify_all()
        finally:
            if self._pool is not None:
                self._pool.close(timeout=1)

    def _take(self) -> list[DurableMessage]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            batch: list[DurableMessage] = []
            size = 0
            while self._waiting and len(batch) < MAX_BATCH_MESSAGES and size < MAX_BATCH_BYTES:
                message = self._waiting.popleft()
                batch.append(message)
                size += len(message.body)
            self._in_flight = len(batch)
            return batch

    def _commit_sooner_or_later(self, batch: Sequence[DurableMessage]) -> None:
        backoff = FIRST_BACKOFF
        trouble: BaseException | None = None
        while not self._stopping.is_set():
            try:
                self._commit(batch)
            except TRANSIENT as error:
                trouble = error
                self._tell_state(error)
                self._stopping.wait(backoff * random.uniform(0.5, 1.0))
                backoff = min(backoff * 2, LAST_BACKOFF)
            except Exception as error:
                self._commit_apart(batch, error)
                return
            else:
                self._tell_state(None)
                return
        self._abandon(batch, trouble or PublishingError("the process ended before it could be sent"))

    def _commit(self, batch: Sequence[DurableMessage]) -> None:
        started = time.perf_counter()
        if self._pool is None:
            self._pool = self._make_pool()
        with self._pool.connection() as connection:
            try:
                ids = self._send(connection, batch)
            except (errors.UndefinedTable, errors.InvalidSchemaName):
                create_queues(connection, {message.queue for message in batch})
                ids = self._send(connection, batch)
        self._tell_published(batch, ids, (time.perf_counter() - started) * 1000)

    def _send(self, connection: Connection, batch: Sequence[DurableMessage]) -> dict[str, list[int]]:
        by_queue: dict[str, list[DurableMessage]] = {}
        for message in batch:
            by_queue.setdefault(message.queue, []).append(message)
        parameter = b"[%s]" % b",".join(
            b'{"queue":%s,"messages":[%s],"headers":[%s]}'
            % (values.encode(queue), b",".join(m.body for m in messages), b",".join(m.headers for m in messages))
            for queue, messages in by_queue.items()
        )
        ids: dict[str, list[int]] = {}
        for queue, message_id in connection.execute(sql.SEND, [parameter.decode()]):
            ids.setdefault(queue, []).append(message_id)
        return ids

    def _commit_apart(self, batch: Sequence[DurableMessage], error: BaseException) -> None:
        """Find what made Postgres refuse the batch: the good ones are published, the bad ones become dead letters."""
        if len(batch) > 1:
            middle = len(batch) // 2
            self._commit_sooner_or_later(batch[:middle])
            self._commit_sooner_or_later(batch[middle:])
            return
        (message,) = batch
        self._count_failure(message, "postgres")
        message.trail.failed("postgres", error)
        logger.warning(
            "Postgres refused a domain event%s",
            "; its dead letter is lost" if message.is_dead_letter else "; it is parked as a dead letter",
            extra=failure_fields(message.fields, error),
        )
        if message.is_dead_letter:
            _settle(message, kept=False)
        else:
            self._commit_sooner_or_later([message.refused(error)])

    def _abandon(self, batch: Sequence[DurableMessage], error: BaseException) -> None:
        for message in batch:
            _settle(message, kept=False)
            self._count_failure(message, "shutdown")
            message.trail.failed("shutdown", error)
            logger.warning(
                "Domain event lost: Postgres could not be reached before the process ended",
                extra=failure_fields(message.fields, error),
            )

    def _count_failure(self, message: DurableMessage, reason: str) -> None:
        self._counters.add("failed", message.fields["event_name"], message.fields["namespace"], reason)

    def _tell_state(self, error: BaseException | None) -> None:
        """Log the change between reachable and not, never each attempt."""
        if error is not None and not self._is_down:
            self._is_down = True
            logger.warning("Durable domain events wait in memory: %s: %s", type(error).__name__, error, extra=error_fields(error))
        elif error is None and self._is_down:
            self._is_down = False
            logger.warning("Durable domain events are published again")

    def _tell_published(self, batch: Sequence[DurableMessage], ids: dict[str, list[int]], duration_ms: float) -> None:
        iterators: dict[str, Any] = {queue: iter(message_ids) for queue, message_ids in ids.items()}
        telling = logger.isEnabledFor(logging.INFO)
        for message in batch:
            _settle(message, kept=True)
            message_id = next(iterators[message.queue])
            name = "dead_lettered" if message.is_dead_letter else "published"
            mode = message.fields.get("delivery_mode", "durable")
            self._counters.add(name, message.fields["event_name"], message.fields["namespace"], mode)
            message.trail.published(message_id)
            if telling:
                logger.info(
                    "Domain event parked as a dead letter: %s" if message.is_dead_letter else "Domain event published: %s",
                    message.fields["event_name"],
                    extra={**message.fields, "queue_name": message.queue, "message_id": message_id, "duration_ms": duration_ms},
                )


def _settle(message: DurableMessage, *, kept: bool) -> None:
    if message.confirmation is not None:
        message.confirmation.settle(kept=kept)
