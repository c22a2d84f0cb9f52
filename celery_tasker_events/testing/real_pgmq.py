"""RealPgmq: a fresh database with the real PGMQ, to which all durable events of a test's process go."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery_tasker_events import envelope
from celery_tasker_events.building import Draft, Publication
from celery_tasker_events.durable.databases import Databases
from celery_tasker_events.durable.message import dead_letter_queue
from celery_tasker_events.durable.pool import connect, make_pool
from celery_tasker_events.durable.queues import set_up
from celery_tasker_events.durable.transaction import AsyncAdapter, SyncAdapter, adapter_of
from celery_tasker_events.durable.writer import DurableWriter
from celery_tasker_events.event import DomainEvent, queue_name
from celery_tasker_events.process import diverted
from celery_tasker_events.router import BusPath
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres
from celery_tasker_events.testing.queue_content import messages
from celery_tasker_events.testing.running_tasks import RunningTasks
from celery_tasker_events.testing.settling import settle

__all__ = ["RealPgmq", "served", "started_server"]

#: The database that is copied for each test: PGMQ is installed once.
_TEMPLATE = "with_pgmq"

_numbers = itertools.count(1)


@contextlib.contextmanager
def started_server() -> Iterator[EmbeddedPostgres]:
    """Run an embedded Postgres with a template database that has PGMQ.

    Raises:
        ModuleNotFoundError: without the extra ``[testing]``.
    """
    # Not below pytest's own folder: run as root, pytest closes that one to the user that Postgres runs as.
    with EmbeddedPostgres(Path(tempfile.mkdtemp(prefix="pgmq-")), delete=True) as server:
        server.create_database(_TEMPLATE)
        yield server


@contextlib.contextmanager
def served(server: EmbeddedPostgres) -> Iterator[RealPgmq]:
    """Let all durable events of this process go to a fresh database of the server inside the ``with`` block."""
    name = f"real_pgmq_{next(_numbers)}"
    with connect(server.dsn) as connection:
        connection.execute(f'create database "{name}" template "{_TEMPLATE}" strategy file_copy')
    running = RunningTasks()
    database = RealPgmq(server.database_dsn(name), running)
    running.connect()
    try:
        with diverted(_ToDatabase(database)):
            yield database
    finally:
        running.disconnect()
        with connect(server.dsn) as connection:
            connection.execute(f'drop database "{name}" with (force)')


class RealPgmq:
    """A database with PGMQ, and what its queues hold.

    Attributes:
        dsn: Its connection URI, for consumers, or for worker processes of the test's own.
        timeout: Seconds that :meth:`messages` and the like wait for tasks that still run in this process.
    """

    def __init__(self, dsn: str, running: RunningTasks) -> None:
        self.dsn = dsn
        self.timeout = 30.0
        self._running = running
        self._namespaces: set[str] = set()

    def create_queues(self, *namespaces: str) -> None:
        """Create the queues of these namespaces. Those of events that this process publishes are made as they are needed."""
        missing = [namespace for namespace in namespaces if namespace not in self._namespaces]
        if missing:
            queues = [queue_name(namespace) for namespace in missing]
            with connect(self.dsn) as connection:
                set_up(connection, [*queues, *map(dead_letter_queue, queues)])
            self._namespaces.update(missing)

    def messages(self, namespace: str) -> list[dict[str, Any]]:
        """Return what is in a namespace's queue, oldest first, as JSON data; nothing is taken out."""
        settle(self._running, self.timeout)
        return messages(self.dsn, namespace)

    def events(self, namespace: str) -> list[DomainEvent]:
        """Return the events in a namespace's queue, oldest first, as a consumer reads them."""
        return [envelope.read(message) for message in self.messages(namespace)]

    def dead_letters(self, namespace: str) -> list[dict[str, Any]]:
        """Return what is parked for a namespace, oldest first."""
        settle(self._running, self.timeout)
        return messages(self.dsn, namespace, dead_letters=True)


class _ToDatabase:
    """The diversion: to one database, however many the app has; without a spool, as the server goes with the test."""

    def __init__(self, database: RealPgmq) -> None:
        self._database = database

    def durable(self, counters: Counters) -> Databases:
        return _WithQueues(self._database, counters)

    def bus(self, bus: BusPath) -> BusPath:
        return bus

    def adapter(self, connection: object) -> SyncAdapter | AsyncAdapter:
        return adapter_of(connection)

    def stamped(self, publication: Publication) -> Publication:
        return publication

    def refused(self, event_name: str, error: BaseException) -> None: ...

    def failed(self, draft: Draft, error: BaseException) -> None: ...


class _WithQueues(Databases):
    """Creates a queue when the first event of its namespace is published."""

    def __init__(self, database: RealPgmq, counters: Counters) -> None:
        super().__init__({}, DurableWriter(lambda: make_pool(database.dsn), sys.maxsize, counters, log_dropped=True))
        self._database = database

    def prepare(self, namespace: str) -> None:
        self._database.create_queues(namespace)
        super().prepare(namespace)
