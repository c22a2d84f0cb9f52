"""Reading: takes batches of messages from the queues, each workflow in order, and as many as are soon handled."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import errors

from celery_tasker_events.consumer import sql
from celery_tasker_events.consumer.delivery import Message
from celery_tasker_events.durable.queues import Connection, send_statement
from celery_tasker_events.durable.sql import SEND
from celery_tasker_events.errors import ConfigurationError, HeadersMissing, did_you_mean
from celery_tasker_events.event import queue_name
from celery_tasker_events.telemetry.log import logger

__all__ = ["SUFFIX", "BatchSize", "Reader"]

#: What the names of all queues of events end in.
SUFFIX = queue_name("")


class Reader:
    """Reads from several queues in turn.

    Args:
        visibility_timeout: Whole seconds for which a message that was read is invisible to others.
        ordered: Whether the events of a workflow come one after the other.
    """

    def __init__(self, queues: Sequence[str], visibility_timeout: int, *, ordered: bool) -> None:
        self._queues = list(queues)
        self._visibility_timeout = visibility_timeout
        self.ordered = ordered
        self._statement = sql.READ
        self._missing: set[str] = set()
        #: Whether the last read may have left something that can be read at once.
        self.may_have_more = False

    def prepare(self, connection: Connection) -> None:
        """Look what PGMQ can do; for each new connection, for the server may be another one.

        Raises:
            DatabaseNotReady: if the database has no PGMQ, or one that is too old.
            ConfigurationError: if it has none that keeps the order.
        """
        if send_statement(connection) != SEND:  # for its check; nothing is sent
            raise HeadersMissing
        if not self.ordered:
            return
        row = connection.execute(sql.FUNCTIONS).fetchone()
        assert row is not None
        has_heads, has_grouped, _ = row
        if not has_grouped:
            raise ConfigurationError(
                "this database's PGMQ has no grouped reads, which keep the events of a workflow in order: update PGMQ to "
                "1.8 or newer, or consume with ordered=False (--unordered)"
            )
        self._statement = sql.READ_HEADS if has_heads else sql.READ_GROUPED

    def read(self, connection: Connection, quantity: int) -> list[Message]:
        """Read up to that many messages; those of one queue are in its order."""
        messages: list[Message] = []
        self.may_have_more = False
        # The one that was asked first comes last the next time: a full queue does not starve the others.
        self._queues.append(self._queues.pop(0))
        for queue in self._queues:
            wanted = quantity - len(messages)
            if wanted == 0:
                self.may_have_more = True
                break
            found = self._read(connection, queue, wanted)
            self.may_have_more |= len(found) == wanted
            messages += found
        return messages

    @property
    def missing(self) -> Sequence[str]:
        """The queues that did not exist when they were last read."""
        return sorted(self._missing)

    def _read(self, connection: Connection, queue: str, wanted: int) -> list[Message]:
        found: list[Message] = []
        try:
            while len(found) < wanted:
                quantity = 1 if self._statement is sql.READ_GROUPED else wanted
                rows = connection.execute(self._statement, [queue, self._visibility_timeout, quantity]).fetchall()
                found += [Message(queue, *row) for row in rows]
                if quantity == wanted or not rows:
                    break
        except errors.UndefinedTable:
            self._tell_missing(connection, queue)
        else:
            self._tell_found(queue)
        return found

    def _tell_missing(self, connection: Connection, queue: str) -> None:
        if queue in self._missing:
            return
        self._missing.add(queue)
        # Names are compared without what all of them have at their end.
        known = {name.removesuffix(SUFFIX) for (name,) in connection.execute(sql.QUEUES) if not name.endswith("_dlq")}
        hint = did_you_mean(queue.removesuffix(SUFFIX), known)
        logger.warning("Queue %s does not exist yet and is waited for.%s", queue, hint, extra={"queue_name": queue})

    def _tell_found(self, queue: str) -> None:
        if queue in self._missing:
            self._missing.remove(queue)
            logger.warning("Queue %s exists now", queue, extra={"queue_name": queue})


class BatchSize:
    """How many messages to hold at a time: what is handled in about a second, or while the next batch is read.

    Who handles an event in a minute holds no events that another consumer could have; who handles a thousand in a second
    does not ask Postgres for each of them.

    Args:
        least: The first size, and the smallest: how many are handled at the same time.
        most: The greatest.
    """

    #: Seconds in which a quarter of a batch should be handled.
    PACE = 0.25

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = max(least, most)
        self.size = least
        self._read_at: float | None = None
        self._took = 0.0

    def room(self, held: int) -> int:
        """Return how many more to read now; 0 while it is not worth a statement."""
        room = self.size - held
        return room if room >= max(1, self.size // 4) else 0

    def about_to_read(self, now: float) -> None:
        """Adapt the size, from how long the last batch has lasted."""
        if self._read_at is None:
            return
        lasted, pace = now - self._read_at, max(self.PACE, self._took)
        if lasted < pace:
            self.size = min(self._most, self.size * 2)
        elif lasted > 2 * pace:
            self.size = max(self._least, self.size // 2)

    def has_read(self, now: float, took: float, *, full: bool) -> None:
        """Note a read that has ended now. One that found less than it asked for tells nothing about the pace."""
        self._read_at = now if full else None
        self._took = took
