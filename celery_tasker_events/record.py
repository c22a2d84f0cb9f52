"""A publication as bytes on disk, and back: for outcomes whose events are not made yet when they must be saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from celery_tasker_events import values
from celery_tasker_events.durable.spool.spool import SpoolRow
from celery_tasker_events.event import StepError, new_event_id
from celery_tasker_events.outcome import OutcomeKind, Snapshot, StepOutcome
from celery_tasker_events.pipeline import Publication
from celery_tasker_events.telemetry.trail import span_context_from, traceparent_of

__all__ = ["EventReference", "Record", "to_rows"]


class EventReference(NamedTuple):
    """What finds a declared event again, in this process or another of the same app.

    Attributes:
        task_name: The Celery task that declares it; None where ``by_hand`` says that it was published outside a task.
    """

    task_name: str | None
    event_name: str
    namespace: str
    step_name: str | None
    workflow: str | None
    condition: str
    delivery_mode: str
    by_hand: bool


class Record(NamedTuple):
    """One event of an outcome, as it was saved."""

    outcome: StepOutcome
    event: EventReference
    event_id: str
    idempotency_key: str | None

    @classmethod
    def of(cls, content: bytes) -> Record:
        """Read what :func:`to_rows` wrote."""
        saved = values.decode(content)
        return cls(_outcome(saved["outcome"]), EventReference(**saved["event"]), saved["event_id"], saved["idempotency_key"])


def to_rows(publication: Publication) -> Iterator[SpoolRow]:
    """The durable events of a publication, a row each; each keeps its id from now on, however often it is read."""
    outcome = publication.outcome
    saved_outcome = {
        **outcome._asdict(),
        "kind": outcome.kind.value,
        "result": _saved(outcome.result),
        "error": None if outcome.error is None else dataclasses.asdict(outcome.error),
        "inputs": None if outcome.inputs is None else _saved(outcome.inputs),
        "trace": traceparent_of(outcome.trace),
    }
    for bound in publication.events:
        declaration = bound.declaration
        if not declaration.delivery_mode.reaches_pgmq:
            continue
        event = EventReference(
            outcome.task_name,
            declaration.name,
            bound.namespace,
            bound.step_name,
            bound.workflow,
            declaration.condition.value,
            declaration.delivery_mode.value,
            outcome.kind is OutcomeKind.BY_HAND,
        )
        content = {
            "outcome": saved_outcome,
            "event": event._asdict(),
            "event_id": publication.event_id or new_event_id(),
            "idempotency_key": publication.idempotency_key,
        }
        yield SpoolRow(declaration.name, bound.namespace, values.encode(content))


def _saved(snapshot: Snapshot) -> dict[str, Any]:
    return {"json": snapshot.json.decode(), "error": snapshot.error}


def _snapshot(saved: dict[str, Any]) -> Snapshot:
    return Snapshot(saved["json"].encode(), saved["error"])


def _outcome(saved: dict[str, Any]) -> StepOutcome:
    changed = {
        "kind": OutcomeKind(saved["kind"]),
        "result": _snapshot(saved["result"]),
        "error": saved["error"] and StepError(**saved["error"]),
        "inputs": saved["inputs"] and _snapshot(saved["inputs"]),
        "trace": span_context_from(saved["trace"]),
    }
    return StepOutcome(**{**saved, **changed})
