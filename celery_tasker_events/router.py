"""Delivery mode to paths: an event goes to the bus, to PGMQ, or to both, and neither path's error stops the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from celery_tasker_events.declaration import DeliveryMode
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.envelope import Envelope
from celery_tasker_events.errors import PublishingError
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import failure_fields, logger
from celery_tasker_events.telemetry.trail import NO_TRAIL, Trail

__all__ = ["BusPath", "DurablePath", "Outgoing", "Router", "durable_message"]


class Outgoing(Protocol):
    """An event on its way to its paths."""

    def message(self, envelope: Envelope, traceparent: str | None) -> tuple[bytes, bytes]: ...
    def shown(self) -> DomainEvent: ...


def durable_message(
    event: Outgoing,
    envelope: Envelope,
    fields: Mapping[str, Any],
    trail: Trail,
    confirmation: Confirmation | None = None,
    max_bytes: int | None = None,
) -> DurableMessage:
    """Return an event as it goes to its queue.

    Args:
        fields: Its log fields.
        max_bytes: How large it may be, headers not counted; None: as large as it is.

    Raises:
        NotSerialisable: if a part of the event is not JSON data.
        EventTooLarge: if it is larger than that.
    """
    body, headers = event.message(envelope, trail.traceparent)
    message = DurableMessage(fields["queue_name"], body, headers, fields, confirmation=confirmation, trail=trail)
    message.check_size(max_bytes)
    return message


class BusPath(Protocol):
    def publish(self, event: DomainEvent, mode: str) -> None: ...


class DurablePath(Protocol):
    def send(self, message: DurableMessage) -> None: ...


class Router:
    """Hands each event to the paths of its mode; both paths only queue it, and an error of the bus is counted and logged.

    Args:
        envelope: How an event looks on the durable path; the bus passes the event itself on.
        max_event_bytes: How large it may be there; None: as large as it is.
    """

    def __init__(
        self, bus: BusPath, durable: DurablePath, envelope: Envelope, counters: Counters, max_event_bytes: int | None = None
    ) -> None:
        self._bus = bus
        self._durable = durable
        self._envelope = envelope
        self._counters = counters
        self._max_event_bytes = max_event_bytes

    def route(
        self,
        event: Outgoing,
        mode: DeliveryMode,
        fields: Mapping[str, Any],
        confirmation: Confirmation | None = None,
        trail: Trail = NO_TRAIL,
    ) -> None:
        """Hand the event over.

        Args:
            fields: Its log fields, ``delivery_mode`` included.
            confirmation: Settled when the durable path has committed the event.
            trail: Brought to its end then, too; here if the event is fast.

        Raises:
            PublishingError: if the durable path can't take the event as it is; the bus has got it all the same.
        """
        message: DurableMessage | None = None
        unfit: PublishingError | None = None
        if mode.reaches_pgmq:
            try:
                # It is made before a subscriber can see the payload, and so before it could change it.
                message = durable_message(event, self._envelope, fields, trail, confirmation, self._max_event_bytes)
            except PublishingError as error:
                unfit = error
        if mode.reaches_bus:
            try:
                self._bus.publish(event.shown(), mode.value)
            except Exception as error:
                self._counters.add("failed", fields["event_name"], fields["namespace"], "bus", mode=mode.value)
                logger.warning(
                    "Domain event %s not put on the bus",
                    fields["event_name"],
                    exc_info=error,
                    extra=failure_fields(fields, error),
                )
                if not mode.reaches_pgmq:
                    trail.failed("bus", error)
            else:
                if not mode.reaches_pgmq:
                    trail.published()
        if unfit is not None:
            raise unfit
        if message is not None:
            self._durable.send(message)
