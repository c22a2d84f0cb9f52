"""StepOutcome: what a Celery signal says about a step, as a small immutable value that the task can't change any more."""

from __future__ import annotations

import enum
import hashlib
import socket
import time
from typing import Any, NamedTuple

from celery_tasker_events import values
from celery_tasker_events.declaration import Condition
from celery_tasker_events.errors import NotSerialisable
from celery_tasker_events.event import StepError
from celery_tasker_events.propagation import correlation_of
from celery_tasker_events.telemetry.trail import current_span_context

__all__ = ["STARTED_AT", "OutcomeKind", "Snapshot", "StepOutcome", "error_of", "idempotency_key", "observe"]

#: Attribute of a task request: ``time.monotonic()`` when the task began.
STARTED_AT = "_tasker_events_started_at"

_HOST = socket.gethostname()


class OutcomeKind(enum.Enum):
    """How a step ended, or that an event was published by hand."""

    SUCCESS = "completed"
    RETRYABLE_FAILURE = "retrying"
    PERMANENT_FAILURE = "failed"
    BY_HAND = "published"

    # An enum hashes by its name in Python code; identity is as good and keeps the task's thread fast.
    __hash__ = object.__hash__


#: Which conditions each outcome meets.
CONDITIONS_MET = {
    OutcomeKind.SUCCESS: frozenset({Condition.SUCCESS, Condition.ALWAYS}),
    OutcomeKind.RETRYABLE_FAILURE: frozenset({Condition.FAILURE, Condition.RETRYABLE_FAILURE, Condition.ALWAYS}),
    OutcomeKind.PERMANENT_FAILURE: frozenset({Condition.FAILURE, Condition.PERMANENT_FAILURE, Condition.ALWAYS}),
}


class Snapshot(NamedTuple):
    """A value frozen as JSON, or the reason why it could not be."""

    json: bytes
    error: str | None = None

    @classmethod
    def of(cls, value: Any) -> Snapshot:
        try:
            return cls(values.encode(value))
        except NotSerialisable as error:
            return cls(values.encode(_short_repr(value)), str(error))


def _short_repr(value: Any, limit: int = 10_000) -> str:
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr() raised {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()[:limit]


class StepOutcome(NamedTuple):
    """What happened to one attempt of one step.

    ``result`` is the return value of a success or the payload given by hand; ``inputs`` the arguments, as
    ``[args, kwargs]``, taken only where a custom publisher may ask for them. ``fired_at`` is a POSIX timestamp in seconds.
    ``replacement`` counts how many tasks with this id were replaced by another before this one: their attempts begin anew.
    ``trace`` is the context of the span in which it happened, if OpenTelemetry knows one.
    """

    kind: OutcomeKind
    task_name: str | None
    task_uuid: str | None
    step_uuid: str | None
    correlation_id: str
    attempt: int
    redelivered: bool
    fired_at: float
    fired_by: str
    execution_time_ms: float | None
    result: Snapshot
    error: StepError | None
    error_code: str | None
    inputs: Snapshot | None
    trace: Any = None
    replacement: int = 0


_NO_RESULT = Snapshot(b"null")


def observe(
    kind: OutcomeKind,
    task_name: str,
    task_id: str,
    request: Any,
    *,
    result: Snapshot = _NO_RESULT,
    error: StepError | None = None,
    error_code: str | None = None,
    runtime: float | None = None,
    inputs: Snapshot | None = None,
) -> StepOutcome:
    """Make the outcome of a step from a Celery task request.

    Args:
        task_id: From the signal itself: a request's own id is not always set where the main process reports.
        request: Celery's ``Context``, or anything with some of its attributes.
        runtime: Seconds that the task ran, if Celery told.
    """
    fields = request.__dict__
    if runtime is None and (started := fields.get(STARTED_AT)) is not None:
        runtime = time.monotonic() - started
    root_id = fields.get("root_id") or task_id
    delivery = fields.get("delivery_info")
    return StepOutcome(
        kind,
        task_name,
        root_id,
        task_id,
        correlation_of(fields) or root_id,
        (fields.get("retries") or 0) + 1,
        bool(delivery and delivery.get("redelivered")),
        time.time(),
        fields.get("hostname") or _HOST,
        None if runtime is None else runtime * 1000,
        result,
        error,
        error_code,
        inputs,
        current_span_context(),
        fields.get("replaced_task_nesting") or 0,
    )


def error_of(exception: BaseException | None, *, retryable: bool) -> tuple[StepError, str]:
    """Describe an exception, and give its code: its ``error_code`` where that is a string, else its class' name.

    Celery's wrappers of exceptions that can't be pickled tell the class that they wrap.
    """
    if exception is None:
        return StepError("Retry", "the task asked to be retried", retryable), "Retry"
    type_name = getattr(exception, "exc_cls_name", None) or type(exception).__name__
    try:
        message = str(exception)
    except Exception as error:
        message = f"<str() of {type_name} raised {type(error).__name__}>"
    code = getattr(exception, "error_code", None)
    described = StepError(type_name, message.encode("utf-8", "backslashreplace").decode(), retryable)
    return described, code if isinstance(code, str) else type_name


def idempotency_key(outcome: StepOutcome, namespace: str, event_name: str, sequence: int = 0) -> str:
    """Return the key that a redelivery of the same attempt repeats.

    Args:
        sequence: Which publication of this event by this attempt it is: an event published by hand may come twice.
    """
    attempt = f"{outcome.attempt}/{outcome.replacement}" if outcome.replacement else outcome.attempt
    parts = f"{outcome.step_uuid}\0{outcome.task_name}\0{attempt}\0{namespace}\0{event_name}\0{sequence}"
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
