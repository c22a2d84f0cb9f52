"""Entry: one message of a queue or an archive as those see it who only look; anything may be in a message."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from celery_tasker_events import envelope
from celery_tasker_events.envelope.base import timestamp
from celery_tasker_events.event import DomainEvent

__all__ = ["DEAD_LETTER", "Entry", "Outline", "span_of"]

#: The outcome of a dead letter, beside the statuses of an execution result.
DEAD_LETTER = "dead letter"

Row = tuple[int, datetime.datetime, datetime.datetime | None, int, datetime.datetime, str | None, str | None]


@dataclass(frozen=True)
class Outline:
    """What a message says of itself, as far as it does; all None for what is no event.

    Attributes:
        envelope: Name of the envelope; None for a dead letter.
        outcome: The status of the step: ``"completed"``, ``"retrying"``, ``"failed"`` or ``"published"``; or
            ``"dead letter"``.
        execution_time_ms: Milliseconds.
        fired_at: When the outcome was known, UTC.
        error_type: Class of the exception.
        failed_stage: Of a dead letter: where on its way the event failed.
        payload: Of the event, whichever envelope it is in.
        replay_id: Of the replay that sent it once more; None for the event itself.
    """

    envelope: str | None = None
    event_id: str | None = None
    event_name: str | None = None
    event_version: str | None = None
    namespace: str | None = None
    step_name: str | None = None
    outcome: str | None = None
    attempt: int | None = None
    execution_time_ms: float | None = None
    correlation_id: str | None = None
    task_uuid: str | None = None
    step_uuid: str | None = None
    fired_at: datetime.datetime | None = None
    fired_by: str | None = None
    error_type: str | None = None
    error: str | None = None
    failed_stage: str | None = None
    payload: Any = None
    replay_id: str | None = None


@dataclass(frozen=True)
class Entry:
    """One message, where it is, and what it says.

    Attributes:
        queue: Name of the PGMQ queue.
        archived_at: None while it is in the queue.
        read_ct: How often a consumer has read it.
        visible_at: When a consumer can read it next; in the past: now.
        message: The decoded JSON; its text where that can't be decoded.
        problem: Why the message is no domain event, or not a whole one; None if it is one, or a dead letter.
    """

    queue: str
    msg_id: int
    enqueued_at: datetime.datetime
    archived_at: datetime.datetime | None
    read_ct: int
    visible_at: datetime.datetime
    message: Any
    headers: Any
    outline: Outline
    problem: str | None = None

    @classmethod
    def of(cls, queue: str, row: Row) -> Entry:
        """Make an entry of a row of the statements in ``looking_sql``. Whatever is in the message, it is one."""
        msg_id, enqueued_at, archived_at, read_ct, visible_at, text, headers = row
        message, problem = _decoded(text)
        outline = Outline()
        if problem is None:
            outline, problem = _outlined(message, is_dead_letter=queue.endswith("_dlq"))
        said = _decoded(headers)[0]
        if isinstance(said, Mapping):
            outline = dataclasses.replace(outline, replay_id=_text(said.get("replay_id")))
        return cls(
            queue,
            msg_id,
            _utc(enqueued_at),
            archived_at and _utc(archived_at),
            read_ct,
            _utc(visible_at),
            message,
            said,
            outline,
            problem,
        )

    @property
    def moment(self) -> datetime.datetime:
        """When the event fired; where that is unknown, when it was enqueued."""
        return self.outline.fired_at or self.enqueued_at

    @property
    def started_at(self) -> datetime.datetime:
        """When the step started that the event tells of, where its duration is known; else its moment."""
        duration = self.outline.execution_time_ms
        if duration is None:
            return self.moment
        try:
            return self.moment - datetime.timedelta(milliseconds=duration)
        except (OverflowError, ValueError):
            return self.moment

    def as_json(self) -> dict[str, Any]:
        """The entry as JSON data; times are RFC 3339 in UTC."""
        outline = {field.name: getattr(self.outline, field.name) for field in dataclasses.fields(Outline)}
        return {
            "queue": self.queue,
            "place": "queue" if self.archived_at is None else "archive",
            "msg_id": self.msg_id,
            "enqueued_at": timestamp(self.enqueued_at),
            "archived_at": self.archived_at and timestamp(self.archived_at),
            "read_ct": self.read_ct,
            "visible_at": timestamp(self.visible_at),
            **outline,
            "fired_at": self.outline.fired_at and timestamp(self.outline.fired_at),
            "problem": self.problem,
            "message": self.message,
            "headers": self.headers,
        }


def span_of(entries: Sequence[Entry]) -> tuple[datetime.datetime, datetime.datetime]:
    """Return when the first step started and when the last event fired."""
    return min(entry.started_at for entry in entries), max(entry.moment for entry in entries)


def _utc(moment: datetime.datetime) -> datetime.datetime:
    utc = datetime.timezone.utc
    return moment.replace(tzinfo=utc) if moment.tzinfo is None else moment.astimezone(utc)


def _decoded(text: str | None) -> tuple[Any, str | None]:
    if text is None:
        return None, None
    try:
        return json.loads(text, parse_float=_finite), None
    except (ValueError, RecursionError) as error:  # Postgres knows longer numbers and deeper objects than Python
        return text, f"not decoded: {type(error).__name__}: {error}"


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _outlined(message: Any, *, is_dead_letter: bool) -> tuple[Outline, str | None]:
    if is_dead_letter and isinstance(message, Mapping) and "failed_stage" in message:
        return _of_dead_letter(message), None
    try:
        event = envelope.read(message)
        known = envelope.recognise(message)
        return _of_event(event, known.name if known else None), None
    except (ValueError, OverflowError) as error:
        name = message.get("event_name", message.get("type")) if isinstance(message, Mapping) else None
        return Outline(event_name=_text(name)), str(error)


def _of_event(event: DomainEvent, name: str | None) -> Outline:
    metadata, result = event.metadata, event.execution_result
    # What is read from a message has the type that it happens to have.
    details: Any = result.metadata if isinstance(cast("object", result.metadata), Mapping) else {}
    return Outline(
        envelope=name,
        event_id=_text(event.event_id),
        event_name=_text(event.event_name),
        event_version=_text(event.event_version),
        namespace=_text(metadata.namespace),
        step_name=_text(metadata.step_name),
        outcome=_text(result.status),
        attempt=_whole(details.get("attempt")),
        execution_time_ms=_number(details.get("execution_time_ms")),
        correlation_id=_text(metadata.correlation_id),
        task_uuid=_text(metadata.task_uuid),
        step_uuid=_text(metadata.step_uuid),
        fired_at=_utc(metadata.fired_at),
        fired_by=_text(metadata.fired_by),
        error_type=_text(result.error and result.error.type),
        error=_text(result.error and result.error.message),
        payload=event.payload,
    )


def _of_dead_letter(letter: Mapping[str, Any]) -> Outline:
    error = letter.get("error")
    details = error if isinstance(error, Mapping) else {"error": error}
    said = _of_kept(letter)
    return dataclasses.replace(
        said,
        envelope=None,
        event_id=_text(letter.get("event_id")) or said.event_id,
        event_name=_text(letter.get("event_name")) or said.event_name,
        namespace=_text(letter.get("namespace")) or said.namespace,
        correlation_id=_text(letter.get("correlation_id")) or said.correlation_id,
        task_uuid=_text(letter.get("task_uuid")) or said.task_uuid,
        outcome=DEAD_LETTER,
        error_type=_text(details.get("error_type")),
        error=_text(details.get("error")),
        failed_stage=_text(letter.get("failed_stage")),
    )


def _of_kept(letter: Mapping[str, Any]) -> Outline:
    """What the whole message says that the letter keeps, as an object or as text; nothing if it keeps none."""
    message, text = letter.get("message"), letter.get("message_text")
    if message is None and isinstance(text, str):
        message, _ = _decoded(text)
    return Outline() if message is None else _outlined(message, is_dead_letter=False)[0]


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
