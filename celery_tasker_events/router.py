"""Delivery mode to paths: an event goes to the bus, to PGMQ, or to both, and neither path's error stops the other."""

from __future__ import annotations

from typing import Protocol

from celery_tasker_events.declaration import DeliveryMode
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.log import error_fields, event_fields, logger

__all__ = ["BusPath", "DurablePath", "Router"]


class BusPath(Protocol):
    def publish(self, event: DomainEvent) -> None: ...


class DurablePath(Protocol):
    def send(self, message: DurableMessage) -> None: ...


class Router:
    """Hands each event to the paths of its mode; both paths only queue it, and an error of the bus is logged."""

    def __init__(self, bus: BusPath, durable: DurablePath) -> None:
        self._bus = bus
        self._durable = durable

    def route(self, event: DomainEvent, mode: DeliveryMode, confirmation: Confirmation | None = None) -> None:
        """Hand the event over; the confirmation, if any, is settled when the durable path has committed it."""
        # The message is made before a subscriber can see the payload, and so before it could change it.
        message = DurableMessage.of(event) if mode.reaches_pgmq else None
        if mode.reaches_bus:
            try:
                self._bus.publish(event)
            except Exception as error:
                logger.warning(
                    "Domain event %s not put on the bus",
                    event.event_name,
                    exc_info=error,
                    extra={**event_fields(event), **error_fields(error)},
                )
        if message is not None:
            self._durable.send(message._replace(confirmation=confirmation))
