"""Commits a batch to PGMQ: one statement for all queues; what Postgres refuses is found, and parked as a dead letter."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from celery_tasker_events.durable import sql
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.queues import Connection, create_queues, send_statement
from celery_tasker_events.durable.sending import send
from celery_tasker_events.durable.trouble import Treatment, treatment_of
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import error_fields, failure_fields, logger
from celery_tasker_events.telemetry.trail import NO_TRAIL

__all__ = ["Committer", "Unavailable", "settle"]

#: Seconds after which the pool gets its connection back even if there is no rest: it replaces those that are too old.
_KEPT_FOR = 60.0


class Unavailable(Exception):
    """Postgres can't be used now.

    Attributes:
        settled: How many messages of the batch, from its front, are done with nevertheless.
        reason: What it, or the way to it, said.
    """

    def __init__(self, settled: int, reason: Exception) -> None:
        super().__init__(str(reason))
        self.settled = settled
        self.reason = reason


class Committer:
    """Sends batches over a connection of a pool, which it keeps until it is told to rest.

    Args:
        make_pool: Called by :meth:`prepare`, and on the thread that commits where that could not make it.
    """

    def __init__(self, make_pool: Callable[[], ConnectionPool[Connection]], counters: Counters) -> None:
        self._make_pool = make_pool
        self._counters = counters
        self._pool: ConnectionPool[Connection] | None = None
        # To borrow it for each commit would take a tenth of what a single event costs this process.
        self._connection: Connection | None = None
        self._rest_at = 0.0
        self._statement = sql.SEND

    def prepare(self) -> None:
        """Make the pool now. What keeps it from being made is told by the first commit."""
        with contextlib.suppress(psycopg.Error, ConfigurationError):
            self._pool = self._make_pool()

    def commit(self, batch: Sequence[DurableMessage]) -> None:
        """Commit the messages in order. One that Postgres refuses becomes a dead letter; its neighbours don't suffer.

        Raises:
            Unavailable: if Postgres can't be used for the rest of them now.
        """
        settled = 0
        parts = [batch]
        while parts:
            part = parts.pop()
            try:
                ids, duration_ms = self._send(part)
            except Exception as error:
                treatment = treatment_of(error)
                if treatment is Treatment.WAIT or (treatment is Treatment.SMALLER and len(part) == 1):
                    raise Unavailable(settled, error) from error
                if len(part) > 1:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                    continue
                letter = self._refused(part[0], error)
                if letter is not None:
                    parts.append([letter])
                    continue
            else:
                self._tell_safely(part, ids, duration_ms)
            settled += len(part)

    @property
    def rests(self) -> bool:
        """Whether it keeps no connection."""
        return self._connection is None

    def rest(self) -> None:
        """Give the connection back to the pool, which closes it one day; on the thread that commits."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pool is not None:
            self._pool.putconn(connection)

    def close(self) -> None:
        self.rest()
        if self._pool is not None:
            self._pool.close(timeout=1)

    def _send(self, batch: Sequence[DurableMessage]) -> tuple[dict[str, list[int]], float]:
        """Send it; return the messages' ids by queue, and how many milliseconds it took."""
        started = time.perf_counter()
        if self._pool is None:
            self._pool = self._make_pool()
        if self._connection is None:
            self._connection = self._pool.getconn()
            self._rest_at = started + _KEPT_FOR
        connection = self._connection
        try:
            try:
                ids = send(connection, self._statement, batch)
            except (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedFunction):
                self._statement = send_statement(connection)
                create_queues(connection, {message.queue for message in batch})
                ids = send(connection, self._statement, batch)
        except Exception as error:
            # What mends it counts for new connections only: a role's settings, or the new primary of several hosts.
            if treatment_of(error) is not Treatment.REFUSE or connection.info.transaction_status != TransactionStatus.IDLE:
                connection.close()
                self.rest()
            raise
        if started > self._rest_at:
            self.rest()
        return ids, (time.perf_counter() - started) * 1000

    def _refused(self, message: DurableMessage, error: Exception) -> DurableMessage | None:
        """Tell of it, and return the dead letter to send in its place; None if it is one itself."""
        mode = message.fields.get("delivery_mode", "")
        self._counters.add("failed", message.fields["event_name"], message.fields["namespace"], "postgres", mode=mode)
        message.trail.failed("postgres", error)
        logger.warning(
            "Postgres refused a domain event%s",
            "; its dead letter is lost" if message.is_dead_letter else "; it is parked as a dead letter",
            extra=failure_fields(message.fields, error),
        )
        if message.is_dead_letter:
            settle(message, kept=False)
            return None
        return message.refused(error)

    def _tell_safely(self, batch: Sequence[DurableMessage], ids: dict[str, list[int]], duration_ms: float) -> None:
        for message in batch:
            settle(message, kept=True)
        try:
            self._tell_published(batch, ids, duration_ms)
        except Exception as error:  # a log filter of the user's, say: what is committed must not be sent again for it
            with contextlib.suppress(Exception):
                logger.exception("Events are published, but could not all be told of", extra=error_fields(error))

    def _tell_published(self, batch: Sequence[DurableMessage], ids: dict[str, list[int]], duration_ms: float) -> None:
        # Counted by the batch, and first: each count takes two locks, and what tells of a message may raise.
        counts: dict[tuple[str, str, str, str], int] = {}
        for message in batch:
            series = _series(message)
            counts[series] = counts.get(series, 0) + 1
        for series, count in counts.items():
            self._counters.add(*series, count)
        telling = logger.isEnabledFor(logging.INFO)
        if not telling and all(message.trail is NO_TRAIL for message in batch):
            return
        iterators: dict[str, Any] = {queue: iter(message_ids) for queue, message_ids in ids.items()}
        for message in batch:
            # A trigger on the queue's table may have kept a message, and its id, back.
            message_id = next(iterators.get(message.queue, iter(())), None)
            message.trail.published(message_id)
            if telling:
                logger.info(
                    "Domain event parked as a dead letter: %s" if message.is_dead_letter else "Domain event published: %s",
                    message.fields["event_name"],
                    extra={**message.fields, "queue_name": message.queue, "message_id": message_id, "duration_ms": duration_ms},
                )


def _series(message: DurableMessage) -> tuple[str, str, str, str]:
    fields = message.fields
    name = "dead_lettered" if message.is_dead_letter else "published"
    return name, fields["event_name"], fields["namespace"], fields.get("delivery_mode", "durable")


def settle(message: DurableMessage, *, kept: bool) -> None:
    """Tell who waits for the message that it is in a safe place, or lost."""
    if message.confirmation is not None:
        message.confirmation.settle(kept=kept)
