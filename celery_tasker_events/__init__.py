"""Domain events for Celery: declare what a task's outcome means, and others hear of it."""

from celery_tasker_events.bus.registry import subscribe
from celery_tasker_events.declaration import Condition, DeliveryMode, EventDeclaration, publishes_events
from celery_tasker_events.errors import ConfigurationError, PgmqMissing, TaskerEventsError
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult, StepError
from celery_tasker_events.plugin import DomainEvents
from celery_tasker_events.publisher import BasePublisher, GenericPublisher, StepContext, StepResult

__all__ = [
    "BasePublisher",
    "Condition",
    "ConfigurationError",
    "DeliveryMode",
    "DomainEvent",
    "DomainEvents",
    "EventDeclaration",
    "EventMetadata",
    "ExecutionResult",
    "GenericPublisher",
    "PgmqMissing",
    "StepContext",
    "StepError",
    "StepResult",
    "TaskerEventsError",
    "publishes_events",
    "subscribe",
]
