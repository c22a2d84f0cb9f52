"""A domain event as subscribers and publishers see it."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import uuid_utils

__all__ = ["DomainEvent", "EventMetadata", "ExecutionResult", "StepError", "event_ids_from", "new_event_id", "queue_name"]


_make_id: Callable[[], object] = uuid_utils.uuid7


def new_event_id() -> str:
    """Return a new UUIDv7 (RFC 9562, time-ordered) as a string."""
    return str(_make_id())


@contextlib.contextmanager
def event_ids_from(make: Callable[[], str]) -> Iterator[None]:
    """Let all events of this process get their ids from there, for as long as the ``with`` block: for tests."""
    global _make_id
    before, _make_id = _make_id, make
    try:
        yield
    finally:
        _make_id = before


def queue_name(namespace: str) -> str:
    """Return the name of the PGMQ queue that holds a namespace's durable events."""
    return f"{namespace}_domain_events"


@dataclass(frozen=True)
class StepError:
    """Why a step failed.

    Attributes:
        type: Name of the exception's class, such as ``"CardDeclined"``.
        message: ``str()`` of the exception.
        retryable: Whether the step will be tried again.
    """

    type: str
    message: str
    retryable: bool


@dataclass(frozen=True)
class ExecutionResult:
    """How the step ended.

    Attributes:
        success: False on every failure, retryable or not.
        status: ``"completed"``, ``"retrying"``, ``"failed"``, or ``"published"`` for an event published by hand.
        error: None unless it failed.
        metadata: ``execution_time_ms`` (milliseconds, or None), ``attempt`` (1 is the first), ``redelivered``.
    """

    success: bool
    status: str
    error: StepError | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EventMetadata:
    """Where an event comes from.

    Attributes:
        task_uuid: Id of the workflow: Celery's root id.
        step_uuid: Id of the step: the Celery task's id. None for an event published outside a task.
        step_name: The step's name in its template, or the task's function name.
        namespace: Which queue and whose event it is.
        correlation_id: Ties together all that one workflow, or one caller, set off.
        fired_at: When the outcome was known, UTC.
        fired_by: The worker's node name, or the host's name outside a worker.
        idempotency_key: The same for the same event of the same attempt of the same step.
        extra: What a custom publisher's ``additional_metadata`` added; on the wire beside the fields above.
    """

    task_uuid: str | None
    step_uuid: str | None
    step_name: str | None
    namespace: str
    correlation_id: str
    fired_at: datetime.datetime
    fired_by: str
    idempotency_key: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DomainEvent:
    """A business fact that has happened. The payload is JSON data: see ``celery_tasker_events.values``."""

    event_id: str
    event_name: str
    payload: Any
    metadata: EventMetadata
    execution_result: ExecutionResult
    event_version: str = "1.0"

    @property
    def queue_name(self) -> str:
        return queue_name(self.metadata.namespace)
