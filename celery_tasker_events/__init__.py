"""Domain events for Celery: declare what a task's outcome means, and others hear of it."""

# Makes the remote control command known, to workers and to Celery's command line.
import celery_tasker_events.inspection  # noqa: F401
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
