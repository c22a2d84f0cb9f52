"""Delivery mode to paths: an event goes to the bus, to PGMQ, or to both, and neither path's error stops the other."""

from __future__ import annotations

from typing import Protocol

from celery_tasker_events.declaration import DeliveryMode
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.event import DomainEvent

__all__ = ["BusPath", "DurablePath", "Router"]


class BusPath(Protocol):
    def publish(self, event: DomainEvent) -> None: ...


class DurablePath(Protocol):
    def send(self, message: DurableMessage) -> None: ...


class Router:
    """Hands each event to the paths of its mode; both paths only queue it and never raise for a full queue."""

    def __init__(self, bus: BusPath, durable: DurablePath) -> None:
        self._bus = bus
        self._durable = durable

    def route(self, event: DomainEvent, mode: DeliveryMode) -> None:
        # The message is made before a subscriber can see the payload, and so before it could change it.
        message = DurableMessage.of(event) if mode.reaches_pgmq else None
        try:
            if mode.reaches_bus:
                self._bus.publish(event)
        finally:
            if message is not None:
                self._durable.send(message)
