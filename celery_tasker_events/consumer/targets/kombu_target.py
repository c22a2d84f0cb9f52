"""Message brokers, through kombu: RabbitMQ with publisher confirms, Redis and whatever else kombu has a transport for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import amqp
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.messaging import Producer
from kombu.transport import TRANSPORT_ALIASES

from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.failing import Rejected
from celery_tasker_events.consumer.targets.base import (
    NotNow,
    Outcome,
    Target,
    TargetOptions,
    TargetUnavailable,
    content_type_of,
    headers_of,
    is_amqp,
    masked,
    missing_package,
    transport_options,
)
from celery_tasker_events.errors import ConfigurationError

__all__ = ["KombuTarget"]

#: Name of the exchange, and with transports that have no exchanges of their own also of the queue.
EXCHANGE = "domain_events"

#: AMQP's short strings: a routing key is one.
LONGEST_KEY = 255

#: What makes a connection useless for good: its retry would be refused as well.
_REFUSED = (amqp.AccessRefused, amqp.NotAllowed, amqp.PreconditionFailed)


class KombuTarget(Target):
    """``amqp://…``, ``redis://…``: a durable topic exchange, with the event's name as routing key.

    RabbitMQ confirms each message, once it is safe in every queue that it is routed to. With any other transport an event
    counts as published when kombu's publishing has returned.
    """

    schemes = tuple(TRANSPORT_ALIASES)
    takes = frozenset({"exchange", "routing_key", "queue", "unroutable", "timeout"})

    def __init__(self, url: str, options: TargetOptions) -> None:
        super().__init__(url, options)
        self._is_amqp = is_amqp(url)
        self._template = options.routing_key or "{event_name}"
        try:
            self._template.format(event_name="", namespace="", step_name="")
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ConfigurationError(
                f"routing key {self._template!r}: it may have {{event_name}}, {{namespace}} and {{step_name}} in it"
            ) from error
        if not self._is_amqp and options.unroutable is not None:
            raise ConfigurationError(f"{self.shown}: only AMQP tells what is unroutable")
        self._mandatory = self._is_amqp and options.unroutable != "drop"
        self._timeout = 30.0 if options.timeout is None else options.timeout
        self._connection: Any = None
        self._producer: Any = None
        self._pending: dict[int, int] = {}
        self._outcomes: list[Outcome] = []
        self._positions: dict[str, list[int]] = {}

    @property
    def destination(self) -> str:
        return self.options.exchange or EXCHANGE

    def open(self) -> None:
        try:
            self._connection = Connection(
                self.url, connect_timeout=self._timeout, transport_options=transport_options(self.url, self._timeout)
            )
            with self._trouble():
                self._connection.connect()
                self._declare(self._connection.channel())
        except ImportError as error:
            raise missing_package(self.shown, error) from error
        except TargetUnavailable as error:
            if isinstance(error.__cause__, _REFUSED):
                raise ConfigurationError(str(error)) from error.__cause__
            raise

    def publish(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        self._outcomes = [None] * len(batch)
        self._pending = {}
        # The same event may be there twice.
        self._positions = {}
        for position, delivery in enumerate(batch):
            self._positions.setdefault(_short(delivery.event.event_id), []).append(position)
        try:
            with self._trouble():
                for position, delivery in enumerate(batch):
                    self._send(position, delivery)
                self._await_confirms()
        except TargetUnavailable as error:
            if not isinstance(error.__cause__, amqp.PreconditionFailed):
                raise
            # RabbitMQ closes the channel over a message that is larger than it takes.
            if len(batch) == 1:
                self.close()
                return [Rejected(str(error))]
            return [outcome for delivery in batch for outcome in self._publish_alone(delivery)]
        return self._outcomes

    def close(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            # An AMQP connection that is gone can't be closed politely, and waiting for that would take long.
            with contextlib.suppress(Exception):
                connection.collect(socket_timeout=1)

    def _publish_alone(self, delivery: Delivery) -> Sequence[Outcome]:
        if self._producer is None or not self._connection.connected or not self._producer.channel.is_open:
            self.close()
            self.open()
        return self.publish([delivery])

    def _declare(self, channel: Any) -> None:
        exchange = Exchange(self.destination, "topic", durable=True)
        exchange(channel).declare()
        queue = self.options.queue or (None if self._is_amqp else exchange.name)
        if queue is not None:
            Queue(queue, exchange, "#", durable=True)(channel).declare()
        if self._is_amqp:
            channel.confirm_select()
            channel.events["basic_ack"].add(self._acknowledged)
            channel.events["basic_nack"].add(self._refused)
        self._producer = Producer(channel, exchange, auto_declare=False, on_return=self._returned if self._is_amqp else None)
        self._sent = 0

    def _send(self, position: int, delivery: Delivery) -> None:
        event = delivery.event
        key = self._template.format(
            event_name=event.event_name, namespace=event.metadata.namespace, step_name=event.metadata.step_name or ""
        )
        if len(key.encode()) > LONGEST_KEY:
            self._outcomes[position] = Rejected(f"the routing key is longer than {LONGEST_KEY} bytes")
            return
        more = {"mandatory": self._mandatory, "timeout": self._timeout} if self._is_amqp else {}
        self._producer.publish(
            delivery.body.encode(),
            routing_key=key,
            delivery_mode=2,
            content_type=content_type_of(delivery),
            content_encoding="utf-8",
            headers=dict(headers_of(delivery)),
            message_id=_short(event.event_id),
            correlation_id=_short(event.metadata.correlation_id),
            type=_short(event.event_name),
            timestamp=int(event.metadata.fired_at.timestamp()),
            **more,
        )
        if self._is_amqp:
            self._sent += 1
            self._pending[self._sent] = position

    def _await_confirms(self) -> None:
        deadline = time.monotonic() + self._timeout
        while self._pending:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TargetUnavailable(f"{self.shown} has not confirmed {len(self._pending)} messages in {self._timeout:g} s")
            waiting = len(self._pending)
            self._connection.drain_events(timeout=left)
            if len(self._pending) < waiting:
                deadline = time.monotonic() + self._timeout

    def _acknowledged(self, tag: int, multiple: bool) -> None:
        self._confirmed(tag, multiple)

    def _refused(self, tag: int, multiple: bool) -> None:
        for position in self._confirmed(tag, multiple):
            self._outcomes[position] = NotNow("the broker has refused the message: perhaps a queue is full")

    def _confirmed(self, tag: int, multiple: bool) -> list[int]:
        # In the order in which they were sent, so those up to a tag stand first.
        tags = [each for each in self._pending if each <= tag] if multiple else [tag]
        return [self._pending.pop(each) for each in tags if each in self._pending]

    def _returned(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        for position in self._positions.get(message.properties.get("message_id"), ()):
            self._outcomes[position] = NotNow(f"no queue is bound to exchange {exchange} for the routing key {routing_key}")

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        connection = self._connection
        try:
            yield
        except (
            *connection.connection_errors,
            *connection.channel_errors,
            *connection.recoverable_connection_errors,
            KombuError,
        ) as error:
            reason = str(error).replace(self.url, masked(self.url)) or type(error).__name__
            raise TargetUnavailable(f"{self.shown}: {type(error).__name__}: {reason}") from error


def _short(text: str) -> str:
    """Return what fits of a text into a short string of AMQP."""
    return text.encode()[:LONGEST_KEY].decode(errors="ignore")
