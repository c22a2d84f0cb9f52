"""Durable events for a consumer, put into queues as the plugin puts them, and consumers that run beside a test."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import psycopg
import sending
from psycopg import sql

from celery_tasker_events.consumer import Consumer
from celery_tasker_events.consumer.forwarder import Forwarder
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import create_queues
from celery_tasker_events.event import DomainEvent, queue_name


def event(number: int, workflow: str = "w", *, name: str = "payment.processed", namespace: str = "payments") -> DomainEvent:
    """An event whose payload is its number; its idempotency key is made of both arguments."""
    made = sending.event(name, number, namespace=namespace, correlation_id=workflow, step_name="pay")
    return dataclasses.replace(made, metadata=dataclasses.replace(made.metadata, idempotency_key=f"{workflow}-{number}"))


def send(dsn: str, events: Iterable[DomainEvent], envelope: str = "native") -> None:
    """Commit events, in this order, to the queues of their namespaces, which are made if they are missing."""
    sending.send(dsn, *events, envelope_name=envelope)


def send_raw(dsn: str, message: str, headers: str | None = None, namespace: str = "payments") -> None:
    """Commit any JSON to a namespace's queue."""
    with connect(dsn) as connection:
        create_queues(connection, {queue_name(namespace)})
        sending.put(connection, queue_name(namespace), message, headers)


def rows(dsn: str, columns: str, namespace: str = "payments", table: str = "q", *, dead_letters: bool = False) -> list[Any]:
    """Columns of what is in a queue, or with ``table="a"`` in its archive, oldest first; of one column its values."""
    name = sql.Identifier("pgmq", f"{table}_{queue_name(namespace)}{'_dlq' if dead_letters else ''}")
    with psycopg.connect(dsn) as connection:
        found = connection.execute(sql.SQL("select {} from {} order by msg_id").format(sql.SQL(columns), name)).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


class Running:
    """A consumer or a forwarder that runs on a thread of its own, until the block is left; an error of it is raised there."""

    def __init__(self, consumer: Consumer | Forwarder) -> None:
        self.consumer = consumer
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.consumer.run()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Consumer | Forwarder:
        self._thread.start()
        return self.consumer

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.consumer.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
