"""Delivery mode to paths: an event goes to the bus, to PGMQ, or to both, and neither path's error stops the other."""

from __future__ import annotations

from typing import Protocol

from celery_tasker_events.declaration import DeliveryMode
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.envelope import Envelope
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import event_fields, failure_fields, logger
from celery_tasker_events.telemetry.trail import NO_TRAIL, Trail

__all__ = ["BusPath", "DurablePath", "Router"]


class BusPath(Protocol):
    def publish(self, event: DomainEvent, mode: str) -> None: ...


class DurablePath(Protocol):
    def send(self, message: DurableMessage) -> None: ...


class Router:
    """Hands each event to the paths of its mode; both paths only queue it, and an error of the bus is counted and logged.

    Args:
        envelope: How an event looks on the durable path; the bus passes the event itself on.
    """

    def __init__(self, bus: BusPath, durable: DurablePath, envelope: Envelope, counters: Counters) -> None:
        self._bus = bus
        self._durable = durable
        self._envelope = envelope
        self._counters = counters

    def route(
        self, event: DomainEvent, mode: DeliveryMode, confirmation: Confirmation | None = None, trail: Trail = NO_TRAIL
    ) -> None:
        """Hand the event over.

        Args:
            confirmation: Settled when the durable path has committed the event.
            trail: Brought to its end then, too; here if the event is fast.
        """
        # The message is made before a subscriber can see the payload, and so before it could change it.
        message = DurableMessage.of(event, self._envelope, trail.traceparent) if mode.reaches_pgmq else None
        fields = {**event_fields(event), "delivery_mode": mode.value}
        if mode.reaches_bus:
            try:
                self._bus.publish(event, mode.value)
            except Exception as error:
                self._counters.add("failed", event.event_name, event.metadata.namespace, "bus", mode=mode.value)
                logger.warning(
                    "Domain event %s not put on the bus",
                    event.event_name,
                    exc_info=error,
                    extra=failure_fields(fields, error),
                )
                if message is None:
                    trail.failed("bus", error)
            else:
                if message is None:
                    trail.published()
        if message is not None:
            self._durable.send(message._replace(fields=fields, confirmation=confirmation, trail=trail))
