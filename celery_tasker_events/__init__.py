"""Domain events for Celery: declare what a task's outcome means, and others hear of it."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_tasker_events.bus.logging_subscriber import LoggingSubscriber
    from celery_tasker_events.bus.metrics_subscriber import MetricsSubscriber
    from celery_tasker_events.bus.registry import subscribe, unsubscribe
    from celery_tasker_events.bus.stream import EventStream
    from celery_tasker_events.bus.subscriber import BaseSubscriber
    from celery_tasker_events.declaration import Condition, DeliveryMode, EventDeclaration, publishes_events
    from celery_tasker_events.errors import (
        ConfigurationError,
        NotSerialisable,
        PgmqMissing,
        PublishingError,
        QueueMissing,
        SchemaViolation,
        StreamClosed,
        TaskerEventsError,
        UnsupportedConnection,
    )
    from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult, StepError
    from celery_tasker_events.event_type import EventType
    from celery_tasker_events.plugin import DomainEvents
    from celery_tasker_events.publisher import BasePublisher, GenericPublisher, StepContext, StepResult

__all__ = [
    "BasePublisher",
    "BaseSubscriber",
    "Condition",
    "ConfigurationError",
    "DeliveryMode",
    "DomainEvent",
    "DomainEvents",
    "EventDeclaration",
    "EventMetadata",
    "EventStream",
    "EventType",
    "ExecutionResult",
    "GenericPublisher",
    "LoggingSubscriber",
    "MetricsSubscriber",
    "NotSerialisable",
    "PgmqMissing",
    "PublishingError",
    "QueueMissing",
    "SchemaViolation",
    "StepContext",
    "StepError",
    "StepResult",
    "StreamClosed",
    "TaskerEventsError",
    "UnsupportedConnection",
    "publishes_events",
    "subscribe",
    "unsubscribe",
]

#: Where each name comes from when it is first asked for: what is not used is not imported, Celery least of all.
_HOMES = {
    "bus.logging_subscriber": ("LoggingSubscriber",),
    "bus.metrics_subscriber": ("MetricsSubscriber",),
    "bus.registry": ("subscribe", "unsubscribe"),
    "bus.stream": ("EventStream",),
    "bus.subscriber": ("BaseSubscriber",),
    "declaration": ("Condition", "DeliveryMode", "EventDeclaration", "publishes_events"),
    "errors": (
        "ConfigurationError",
        "NotSerialisable",
        "PgmqMissing",
        "PublishingError",
        "QueueMissing",
        "SchemaViolation",
        "StreamClosed",
        "TaskerEventsError",
        "UnsupportedConnection",
    ),
    "event": ("DomainEvent", "EventMetadata", "ExecutionResult", "StepError"),
    "event_type": ("EventType",),
    # Not from its own file: this one makes the remote control command known too, to workers and to Celery's command line.
    "inspection": ("DomainEvents",),
    "publisher": ("BasePublisher", "GenericPublisher", "StepContext", "StepResult"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

# Hidden from type checkers: they would take any name at all for one that is here.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
