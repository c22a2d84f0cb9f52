"""Dead letters in the database: look at them without taking them, send them again, delete them. Knows no Celery."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from psycopg.sql import Identifier

from celery_tasker_events.durable import dead_letter_sql, sql
from celery_tasker_events.durable.message import DurableMessage, dead_letter_queue
from celery_tasker_events.durable.queues import Connection, create_queues, send_statement
from celery_tasker_events.durable.sending import send
from celery_tasker_events.event import queue_name

__all__ = ["ALL", "DeadLetter", "DeadLetters", "Wanted"]

_SUFFIX = dead_letter_queue(queue_name(""))

#: How many letters one round trip brings, or deletes.
PAGE = 500


class Wanted(NamedTuple):
    """Which letters are meant.

    ``event`` is a regular expression of Postgres for the event's name; empty for every letter.
    """

    namespace: str | None = None
    event: str | None = None
    older_than: datetime.timedelta | None = None

    def parameters(self) -> dict[str, Any]:
        # Every event is every letter, also one of which nobody knows the event.
        return {"event": self.event or None, "older_than": self.older_than}


#: Every letter of every namespace.
ALL = Wanted()


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        queue: Name of the queue that holds it.
        message_id: PGMQ's id of it, unique within that queue.
        enqueued_at: When it was written.
        content: What :mod:`.letter` says; of a list's letters all but the texts.
    """

    queue: str
    message_id: int
    enqueued_at: datetime.datetime
    content: Mapping[str, Any]

    @property
    def namespace(self) -> str:
        return self.queue.removesuffix(_SUFFIX)

    @property
    def event_name(self) -> str:
        return str(self.content.get("event_name") or "")

    @property
    def event_id(self) -> str:
        return str(self.content.get("event_id") or "")

    @property
    def stage(self) -> str:
        return str(self.content.get("failed_stage") or "")

    @property
    def kept(self) -> str:
        """``"message"``, ``"outcome"`` or ``"text"``: what the event can be published from again."""
        return str(self.content.get("kept") or "text")

    @property
    def error(self) -> str:
        """Why it was not published: the exception's class and its text."""
        error = self.content.get("error")
        if not isinstance(error, Mapping):
            return ""
        return f"{error.get('error_type')}: {error.get('error')}"

    def message(self) -> DurableMessage:
        """Return the message that Postgres refused, as it was.

        Raises:
            ValueError: if the letter does not keep it.
        """
        body, headers = self.content.get("message_text"), self.content.get("headers_text")
        if not isinstance(body, str) or not isinstance(headers, str):
            raise ValueError("the letter does not keep the whole message")
        return DurableMessage(queue_name(self.namespace), body.encode(), headers.encode(), {})


class DeadLetters:
    """The dead letters of one database.

    Args:
        connection: In autocommit; each change is a transaction of its own.

    Raises:
        PgmqMissing: if the database has no PGMQ.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._statement = send_statement(connection)
        self._targets: set[str] = set()

    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that have a queue for dead letters, empty or not."""
        queues = (name for (name,) in self._connection.execute(sql.QUEUES))
        return tuple(sorted(name.removesuffix(_SUFFIX) for name in queues if name.endswith(_SUFFIX)))

    def outlines(self, wanted: Wanted = ALL, after: int = 0, page: int = PAGE) -> Iterator[DeadLetter]:
        """The letters, oldest first, one namespace after the other; page by page, without their texts.

        Args:
            after: Begin behind the letter with this id, in each namespace.
            page: How many are fetched at a time.
        """
        for queue in self._queues(wanted):
            query = dead_letter_sql.OUTLINES.format(table=_table(queue))
            last = after
            while True:
                parameters = {**wanted.parameters(), "after": last, "limit": page}
                rows = self._connection.execute(query, parameters).fetchall()
                yield from (DeadLetter(queue, *row) for row in rows)
                if len(rows) < page:
                    break
                last = rows[-1][0]

    def find(self, message_id: int, namespace: str | None = None) -> list[DeadLetter]:
        """The whole letters with this id: one at most of each namespace."""
        found = []
        for queue in self._queues(Wanted(namespace)):
            query = dead_letter_sql.LETTER.format(table=_table(queue))
            found += [DeadLetter(queue, *row) for row in self._connection.execute(query, {"msg_id": message_id})]
        return found

    def count(self, wanted: Wanted = ALL) -> int:
        """How many letters there are."""
        total = 0
        for queue in self._queues(wanted):
            row = self._connection.execute(dead_letter_sql.COUNT.format(table=_table(queue)), wanted.parameters()).fetchone()
            total += row[0] if row else 0
        return total

    def publish(self, letter: DeadLetter, message: DurableMessage) -> int | None:
        """Send the message and delete the letter in one transaction; return PGMQ's id of the message.

        Returns:
            None if somebody else has deleted the letter: then nothing is sent.

        Raises:
            psycopg.Error: if Postgres refuses it; the letter stays.
        """
        if message.queue not in self._targets:
            create_queues(self._connection, {message.queue})
            self._targets.add(message.queue)
        with self._connection.transaction():
            if not self._one(dead_letter_sql.DELETE, letter.queue, letter.message_id):
                return None
            [sent] = send(self._connection, self._statement, [message])[message.queue]
            return sent

    @property
    def broken(self) -> bool:
        """Whether the connection is lost."""
        return self._connection.broken

    def delete(self, letter: DeadLetter) -> bool:
        """Delete one letter; return whether it was there."""
        return bool(self._one(dead_letter_sql.DELETE, letter.queue, letter.message_id))

    def purge(self, wanted: Wanted = ALL) -> int:
        """Delete the letters, a page in each transaction; return how many there were."""
        total = 0
        for queue in self._queues(wanted):
            query = dead_letter_sql.IDS.format(table=_table(queue))
            last = 0
            while True:
                parameters = {**wanted.parameters(), "after": last, "limit": PAGE}
                ids = [message_id for (message_id,) in self._connection.execute(query, parameters)]
                if not ids:
                    break
                total += self._one(dead_letter_sql.DELETE_ALL, queue, ids)
                last = ids[-1]
        return total

    def _queues(self, wanted: Wanted) -> list[str]:
        return [f"{name}{_SUFFIX}" for name in self.namespaces() if wanted.namespace in (None, name)]

    def _one(self, query: str, *parameters: Any) -> Any:
        row = self._connection.execute(query, parameters).fetchone()
        assert row is not None, query
        return row[0]


def _table(queue: str) -> Identifier:
    # PGMQ names a queue's table in lower case.
    return Identifier("pgmq", f"q_{queue.lower()}")
