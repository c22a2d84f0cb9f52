"""What arrives in the queues: the declared events by queue, name and version, with an example of each."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_tasker_events import values
from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.contract.examples import examples_of
from celery_tasker_events.declaration import Condition
from celery_tasker_events.envelope import Envelope
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult, StepError

__all__ = ["EventMessage", "component_name", "messages_of"]

_ID = "01a21051-d0c5-74de-8a1d-f15b5077aec8"
_WORKFLOW = "3ac7f29b-2106-4882-b9a7-cbfefa91f23e"
_STEP = "adb93197-1cf0-4f34-b572-9baadb4dc920"
_FIRED_AT = datetime.datetime(2026, 1, 1, 10, 0, 0, 123456, datetime.timezone.utc)
_KEY = "ffbe6863c75ec8abea11085be0e44986"


@dataclass(frozen=True)
class EventMessage:
    """One event in one version, as all steps publish it that do.

    Attributes:
        entries: Its declarations, at least one.
    """

    event: str
    version: str
    namespace: str
    entries: Sequence[CatalogEntry]

    @property
    def key(self) -> str:
        """What tells it from the others, in the characters that AsyncAPI allows in the names of components."""
        return component_name(f"{self.namespace}.{self.event}-{self.version}")

    @property
    def is_durable(self) -> bool:
        """Whether one of its declarations reaches the queue."""
        return self.queue is not None

    @property
    def queue(self) -> str | None:
        return next((entry.queue for entry in self.entries if entry.queue), None)

    @property
    def when(self) -> str:
        """On which outcomes its declarations publish it, in words."""
        return ", ".join(dict.fromkeys(entry.when for entry in self.entries))

    @property
    def description(self) -> str:
        return "\n".join(dict.fromkeys(entry.description for entry in self.entries if entry.description))

    @property
    def schemas(self) -> list[Mapping[str, Any]]:
        """The different schemas of its payload; empty if a declaration has none: then it may be anything."""
        if any(entry.schema is None for entry in self.entries):
            return []
        different = {json.dumps(entry.schema, sort_keys=True): entry.schema for entry in self.entries}
        return [schema for schema in different.values() if schema is not None]

    def example_payloads(self) -> list[tuple[CatalogEntry, Any]]:
        """Valid payloads, each with a declaration that it is of; those of equal schemas once."""
        found: dict[str, tuple[CatalogEntry, Any]] = {}
        for entry in self.entries:
            for payload in _payloads(entry):
                found.setdefault(json.dumps(payload, sort_keys=True), (entry, payload))
        return list(found.values())

    def examples(self, envelope: Envelope) -> list[tuple[Any, Any]]:
        """Whole messages in this envelope, as (body, headers)."""
        events = [_event(entry, payload) for entry, payload in self.example_payloads()]
        return [(values.decode(envelope.to_message(event)), values.decode(envelope.headers(event))) for event in events]


def component_name(text: str) -> str:
    """Return a name that AsyncAPI allows, another one for another text."""
    return re.sub(r"[^A-Za-z0-9._-]", lambda found: f"_{ord(found[0]):x}_", text)


def messages_of(entries: Iterable[CatalogEntry]) -> list[EventMessage]:
    """Return the events by namespace, name and version, sorted."""
    grouped: dict[tuple[str, str, str], list[CatalogEntry]] = {}
    for entry in sorted(entries, key=CatalogEntry.order):
        grouped.setdefault((entry.namespace, entry.event, entry.version), []).append(entry)
    return [EventMessage(event, version, namespace, group) for (namespace, event, version), group in grouped.items()]


def _payloads(entry: CatalogEntry) -> list[Any]:
    if entry.schema is not None:
        return examples_of(entry.schema)
    if entry.publisher is None and entry.condition is not None and _fails(entry):
        return [{"error_code": "CardDeclined", "reason": "no funds"}]  # what the generic publisher makes of a failure
    return []


def _fails(entry: CatalogEntry) -> bool:
    return entry.condition not in (None, Condition.SUCCESS, Condition.ALWAYS)


def _event(entry: CatalogEntry, payload: Any) -> DomainEvent:
    return DomainEvent(
        event_id=_ID,
        event_name=entry.event,
        event_version=entry.version,
        payload=payload,
        execution_result=_execution(entry),
        metadata=EventMetadata(
            task_uuid=_WORKFLOW,
            step_uuid=_STEP,
            step_name=entry.step,
            namespace=entry.namespace,
            correlation_id=_WORKFLOW,
            fired_at=_FIRED_AT,
            fired_by="celery@host",
            idempotency_key=_KEY,
        ),
    )


def _execution(entry: CatalogEntry) -> ExecutionResult:
    metadata = {"execution_time_ms": 12.4, "attempt": 1, "redelivered": False}
    if entry.condition is None:
        return ExecutionResult(True, "published", None, metadata)
    if not _fails(entry):
        return ExecutionResult(True, "completed", None, metadata)
    retryable = entry.condition == Condition.RETRYABLE_FAILURE
    error = StepError("CardDeclined", "no funds", retryable)
    return ExecutionResult(False, "retrying" if retryable else "failed", error, metadata)
