"""Makes the objects that the tests need, right in every field; a test changes what it is about."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from celery_tasker_events import values
from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.declaration import EventDeclaration
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult, StepError
from celery_tasker_events.outcome import OutcomeKind, Snapshot, StepOutcome
from celery_tasker_events.publisher import BasePublisher, GenericPublisher
from celery_tasker_events.schema import PayloadValidator

FIRED_AT = datetime.datetime(2025, 12, 1, 10, 0, 0, 123456, datetime.timezone.utc)

CARD_DECLINED = StepError("CardDeclined", "no funds", retryable=False)


def make_metadata(**changes: Any) -> EventMetadata:
    fields: dict[str, Any] = {
        "task_uuid": "root-1",
        "step_uuid": "task-1",
        "step_name": "process_payment",
        "namespace": "payments",
        "correlation_id": "root-1",
        "fired_at": FIRED_AT,
        "fired_by": "worker@host",
        "idempotency_key": "key-1",
    }
    return EventMetadata(**{**fields, **changes})


def make_event(name: str = "payment.processed", payload: Any = None, **changes: Any) -> DomainEvent:
    fields: dict[str, Any] = {
        "event_id": "0199c3e0-d123-7000-8000-000000000001",
        "event_name": name,
        "payload": payload,
        "metadata": make_metadata(),
        "execution_result": ExecutionResult(success=True, status="completed", metadata={"attempt": 1}),
    }
    return DomainEvent(**{**fields, **changes})


def make_outcome(result: Any = None, **changes: Any) -> StepOutcome:
    fields: dict[str, Any] = {
        "kind": OutcomeKind.SUCCESS,
        "task_name": "shop.process_payment",
        "task_uuid": "root-1",
        "step_uuid": "task-1",
        "correlation_id": "root-1",
        "attempt": 1,
        "redelivered": False,
        "fired_at": FIRED_AT.timestamp(),
        "fired_by": "worker@host",
        "execution_time_ms": 12.5,
        "result": Snapshot.of(result),
        "error": None,
        "error_code": None,
        "inputs": None,
    }
    return StepOutcome(**{**fields, **changes})


def make_failure(**changes: Any) -> StepOutcome:
    return make_outcome(
        **{"kind": OutcomeKind.PERMANENT_FAILURE, "error": CARD_DECLINED, "error_code": "card_declined", **changes}
    )


def make_bound(name: str = "payment.processed", *, publisher: BasePublisher | None = None, **fields: Any) -> BoundEvent:
    declaration = EventDeclaration.from_mapping({"name": name, **fields})
    validator = None if declaration.schema is None else PayloadValidator(declaration.schema)
    return BoundEvent(
        declaration, declaration.namespace or "payments", "process_payment", publisher or GenericPublisher(), validator
    )


class RecordingBus:
    """A BusPath that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[DomainEvent] = []

    def publish(self, event: DomainEvent, mode: str) -> None:
        self.events.append(event)


class RecordingDurable:
    """A DurablePath that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[DurableMessage] = []

    def send(self, message: DurableMessage) -> None:
        self.messages.append(message)

    @property
    def published(self) -> list[Any]:
        return [values.decode(message.body) for message in self.messages if not message.is_dead_letter]

    @property
    def dead_letters(self) -> list[Any]:
        return [values.decode(message.body) for message in self.messages if message.is_dead_letter]


def hooked(**hooks: Callable[..., Any]) -> BasePublisher:
    return type("Hooked", (BasePublisher,), hooks)()


class Boom(Exception): ...


def raising(error: BaseException) -> Callable[..., Any]:
    def hook(self: Any, *_: Any) -> Any:
        raise error

    return hook
