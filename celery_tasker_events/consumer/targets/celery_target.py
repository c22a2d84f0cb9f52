"""Another Celery app: each event starts a task there, with the event as its one argument."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Sequence
from typing import Any

from kombu.exceptions import KombuError

from celery_tasker_events import values
from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.targets.base import (
    Outcome,
    Target,
    TargetOptions,
    TargetUnavailable,
    headers_of,
    is_amqp,
    masked,
    missing_package,
    transport_options,
)
from celery_tasker_events.consumer.tracing import continuing
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.propagation import CORRELATION_HEADER

__all__ = ["CeleryTarget", "task_id_of"]

_TASK = re.compile(r"celery://([^\s/?#]+)/?")


def task_id_of(task: str, event_id: str) -> str:
    """Return the id of the task that an event starts: the same however often the event is forwarded."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"celery://{task}/{event_id}"))


class CeleryTarget(Target):
    """``celery://task.name``, with the URL of the other app's broker as an option."""

    schemes = ("celery",)
    takes = frozenset({"broker", "queue", "timeout"})

    def __init__(self, url: str, options: TargetOptions) -> None:
        self._broker = options.broker or ""
        super().__init__(url, options)
        match = _TASK.fullmatch(url)
        if match is None:
            raise ConfigurationError(f"{self.shown}: it must be celery:// and the name of a task, such as celery://crm.book")
        if not self._broker:
            raise ConfigurationError(f"{self.shown} needs the URL of the other app's broker (--broker, --broker-env)")
        self._task = match[1]
        self._timeout = 30.0 if options.timeout is None else options.timeout
        self._app: Any = None
        self._connection: Any = None
        self._producer: Any = None

    @property
    def shown(self) -> str:
        return f"{masked(self.url)} at {masked(self._broker)}" if self._broker else masked(self.url)

    @property
    def destination(self) -> str:
        return self._task

    def open(self) -> None:
        # Only who forwards to it needs Celery.
        from celery import Celery

        self._app = Celery("celery_tasker_events.forward", broker=self._broker, set_as_current=False)
        options = transport_options(self._broker, self._timeout)
        if is_amqp(self._broker):
            options["confirm_publish"] = True
        try:
            self._connection = self._app.connection_for_write(connect_timeout=self._timeout, transport_options=options)
            self._connection.connect()
            self._producer = self._app.amqp.Producer(self._connection)
        except ImportError as error:
            raise missing_package(self.shown, error) from error
        except Exception as error:
            raise self._unavailable(error) from error

    def publish(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = [TargetUnavailable(f"{self.shown}: not reached yet")] * len(batch)
        for position, delivery in enumerate(batch):
            try:
                with continuing(delivery):
                    self._send(delivery)
            except (
                *self._connection.connection_errors,
                *self._connection.channel_errors,
                *self._connection.recoverable_connection_errors,
                KombuError,
            ) as error:
                outcomes[position:] = [self._unavailable(error)] * (len(batch) - position)
                break
            outcomes[position] = None
        return outcomes

    def close(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect(socket_timeout=1)
        if self._app is not None:
            self._app.close()
            self._app = None

    def _send(self, delivery: Delivery) -> None:
        options = {} if self.options.queue is None else {"queue": self.options.queue}
        self._app.send_task(
            self._task,
            [values.decode(delivery.body)],
            task_id=task_id_of(self._task, delivery.event.event_id),
            headers={**headers_of(delivery), CORRELATION_HEADER: delivery.event.metadata.correlation_id},
            producer=self._producer,
            retry=False,
            ignore_result=True,
            confirm_timeout=self._timeout,
            **options,
        )

    def _unavailable(self, error: Exception) -> TargetUnavailable:
        reason = str(error).replace(self._broker, masked(self._broker)) or type(error).__name__
        return TargetUnavailable(f"{self.shown}: {type(error).__name__}: {reason}")
