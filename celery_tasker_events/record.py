"""An event that is not made yet as JSON, and back: its step's outcome, and what finds its declaration again.

On disk it waits to be published, and in a dead letter it is what the app can publish the event from again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from celery_tasker_events import values
from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.durable.letter import storable
from celery_tasker_events.durable.spool.spool import SpoolRow
from celery_tasker_events.errors import NotSerialisable
from celery_tasker_events.event import StepError, new_event_id
from celery_tasker_events.outcome import OutcomeKind, Snapshot, StepOutcome
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
    """One event of an outcome, as it is saved."""

    outcome: StepOutcome
    event: EventReference
    event_id: str
    idempotency_key: str | None

    @classmethod
    def of_event(cls, outcome: StepOutcome, bound: BoundEvent, event_id: str, idempotency_key: str | None) -> Record:
        """Return what is to be saved of one event."""
        declaration = bound.declaration
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
        return cls(outcome, event, event_id, idempotency_key)

    @classmethod
    def of(cls, content: bytes | str) -> Record:
        """Read what :meth:`to_json` wrote."""
        saved = values.decode(content)
        return cls(_outcome(saved["outcome"]), EventReference(**saved["event"]), saved["event_id"], saved["idempotency_key"])

    def text(self) -> str | None:
        """Return it as a dead letter keeps it; None where nothing could be published from it."""
        if self.outcome.result.error is not None:
            return None
        try:
            return self.to_json().decode()
        except (NotSerialisable, ValueError):  # an id with a lone surrogate, an orjson.Fragment that is not UTF-8
            return None

    def to_json(self) -> bytes:
        """Return it as JSON in UTF-8.

        Raises:
            NotSerialisable: if an id has a lone surrogate.
        """
        return values.encode(self._as_data())

    def to_json_anyway(self) -> bytes:
        """Return it as JSON in UTF-8; a lone surrogate in an id is escaped, as nothing may be lost for it."""
        try:
            return self.to_json()
        except NotSerialisable:
            return values.encode(storable(self._as_data()))

    def _as_data(self) -> dict[str, Any]:
        outcome = self.outcome
        saved_outcome = {
            **outcome._asdict(),
            "kind": outcome.kind.value,
            "result": _saved(outcome.result),
            "error": None if outcome.error is None else dataclasses.asdict(outcome.error),
            "inputs": None if outcome.inputs is None else _saved(outcome.inputs),
            "trace": traceparent_of(outcome.trace),
        }
        return {**self._asdict(), "outcome": saved_outcome, "event": self.event._asdict()}


def to_rows(
    outcome: StepOutcome, events: Iterable[BoundEvent], event_id: str | None = None, idempotency_key: str | None = None
) -> Iterator[SpoolRow]:
    """The durable ones of an outcome's events, a row each; each keeps its id from now on, however often it is read."""
    for bound in events:
        if bound.declaration.delivery_mode.reaches_pgmq:
            record = Record.of_event(outcome, bound, event_id or new_event_id(), idempotency_key)
            yield SpoolRow(bound.declaration.name, bound.namespace, record.to_json_anyway())


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
