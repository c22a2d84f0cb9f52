"""Looks: what the pages read from the database, each with an end to how much, or how long, is read."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from celery_tasker_events.console.filtering import Wanted
from celery_tasker_events.console.rows import order_of
from celery_tasker_events.consumer.entry import Entry
from celery_tasker_events.consumer.looking import Queue, connect_to_look, find_queues, last_events, trace
from celery_tasker_events.consumer.scanning import Filter, Progress, matching
from celery_tasker_events.durable.dead_letters import DeadLetters
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.errors import TaskerEventsError, UnknownQueue

__all__ = ["DEPTH", "SHOWN", "Found", "Looks", "SearchTooLong", "deadline"]

#: How many ids of each table are looked at for the first page, counted from the last one.
DEPTH = 20_000

#: Events that the first page begins with, and that a workflow's page has at most.
SHOWN, STORY = 50, 500

#: Seconds that a search through whole tables may take.
PATIENCE = 15.0

#: Connections that pages use at once.
CONNECTIONS = 4


class SearchTooLong(TaskerEventsError):
    """A search was given up."""


@dataclass(frozen=True)
class Found:
    """Attributes: ``has_more``: whether there are more than these."""

    entries: list[Entry]
    has_more: bool = False
    namespaces: list[str] = field(default_factory=list)


class Looks:
    """Each call has a connection of its own, which cannot write."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._room = threading.BoundedSemaphore(CONNECTIONS)

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        with self._room, connect_to_look(self._dsn) as connection:
            yield connection

    @contextlib.contextmanager
    def dead_letters(self) -> Iterator[DeadLetters]:
        """Dead letters, in a transaction that cannot write."""
        with self.connection() as connection, connection.transaction():
            yield DeadLetters(connection)

    def last(self, wanted: Wanted) -> Found:
        """The last wanted events, the newest first, of the last :data:`DEPTH` ids of each table."""
        with self.connection() as connection:
            queues = find_queues(connection)
            namespaces = sorted(queue.namespace for queue in queues if queue.namespace is not None)
            if wanted.problems:
                return Found([], namespaces=namespaces)
            entries = [
                entry
                for queue in queues
                if wanted.namespace in (None, queue.namespace)
                for entry in last_events(connection, queue, SHOWN, wanted.filter, depth=DEPTH)
            ]
        entries.sort(key=order_of, reverse=True)
        return Found(entries[:SHOWN], len(entries) > SHOWN, namespaces)

    def story(self, correlation_id: str, since: datetime.datetime | None) -> Found:
        """A workflow's events and dead letters.

        Raises:
            SearchTooLong: after :data:`PATIENCE`.
        """
        with self.connection() as connection:
            queues = find_queues(connection, dead_letters=True)
            entries = trace(connection, queues, correlation_id, since=since, limit=STORY, progress=deadline(PATIENCE))
        return Found(entries, len(entries) >= STORY)

    def message(self, queue_name: str, message_id: int) -> list[Entry]:
        """The message with that id, in the queue or its archive; both for a moment while it is archived.

        Raises:
            UnknownQueue: if there is no such queue.
        """
        with self.connection() as connection:
            [queue] = _exactly(find_queues(connection, dead_letters=True), queue_name)
            return [
                entry
                for source in queue.sources
                for entry in matching(connection, source, Filter(), limit=1, low=message_id, high=message_id)
            ]


def _exactly(queues: list[Queue], name: str) -> list[Queue]:
    found = [queue for queue in queues if queue.name == name]
    if not found:
        raise UnknownQueue(f"no queue of domain events is named {name!r}")
    return found


def deadline(seconds: float) -> Progress:
    """Return what ends a search after so many seconds, when it is told of progress."""
    end = time.monotonic() + seconds

    def tell(what: str, done: int, total: int) -> None:
        if time.monotonic() > end and done < total:
            raise SearchTooLong(f"the search was given up after {seconds:g} s, in {what}")

    return tell
