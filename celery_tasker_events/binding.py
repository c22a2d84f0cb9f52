"""A declaration bound to a step, with all that can be worked out once, before any event is published."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_tasker_events.declaration import EventDeclaration
from celery_tasker_events.event import queue_name
from celery_tasker_events.outcome import CONDITIONS_MET, OutcomeKind
from celery_tasker_events.publisher import BasePublisher

if TYPE_CHECKING:
    from celery_tasker_events.schema import PayloadValidator

__all__ = ["EMPTY", "BoundEvent", "BoundStep"]

ByOutcome = Mapping[OutcomeKind, tuple["BoundEvent", ...]]


@dataclass(frozen=True)
class BoundEvent:
    """One event of one step, ready to be published.

    Attributes:
        confirm: Whether the task's thread waits for its commit.
        workflow: ``namespace/name`` of the template that declares it; None for a decorator's.
    """

    declaration: EventDeclaration
    namespace: str
    step_name: str | None
    publisher: BasePublisher
    validator: PayloadValidator | None
    confirm: bool = False
    workflow: str | None = None

    @functools.cached_property
    def queue_name(self) -> str:
        return queue_name(self.namespace)


class BoundStep:
    """All events of one Celery task, by the outcome on which they are due.

    Attributes:
        workflows: The templates that declare events for this task. Of several, a call's workflow header picks one.
        retryable: Exceptions whose failure is a retryable one.
        is_shared: Whether the workflow of a call matters.
        has_confirmed: Whether the task's thread waits for one of them.
    """

    __slots__ = ("_by_outcome", "_by_workflow", "events", "has_confirmed", "is_shared", "needs_inputs", "retryable", "workflows")

    def __init__(self, events: Iterable[BoundEvent], retryable: tuple[type[BaseException], ...] = ()) -> None:
        self.events = tuple(events)
        self.retryable = retryable
        self.workflows = tuple(dict.fromkeys(event.workflow for event in self.events if event.workflow is not None))
        self.is_shared = shared = len(self.workflows) > 1
        self._by_outcome = _by_outcome(event for event in self.events if event.workflow is None or not shared)
        self._by_workflow: Mapping[str | None, ByOutcome] = {
            workflow: _by_outcome(event for event in self.events if event.workflow in (None, workflow))
            for workflow in (self.workflows if shared else ())
        }
        self.has_confirmed = any(event.confirm for event in self.events)
        # Arguments are copied on the task's thread, so only for publishers that may look at them.
        self.needs_inputs = any(event.declaration.publisher is not None for event in self.events)

    def due(self, kind: OutcomeKind, workflow: str | None) -> tuple[BoundEvent, ...]:
        """The events of an outcome; in a shared step those of the call's workflow, or only the decorators' without one."""
        return self._by_workflow.get(workflow, self._by_outcome)[kind]

    def repeated(self) -> list[BoundEvent]:
        """Return what is due together with another event of its name and namespace, on the same path: both would have one
        idempotency key. What has a custom publisher is left out, as that may publish one or the other.
        """
        found: dict[tuple[str, str], BoundEvent] = {}
        for by_outcome in (self._by_outcome, *self._by_workflow.values()):
            for events in by_outcome.values():
                seen: set[tuple[str, str, str]] = set()
                for event in events:
                    if event.declaration.publisher is not None:
                        continue
                    name, mode = event.declaration.name, event.declaration.delivery_mode
                    paths = (("pgmq", mode.reaches_pgmq), ("bus", mode.reaches_bus))
                    ways = {(name, event.namespace, path) for path, is_taken in paths if is_taken}
                    if ways & seen:
                        found[name, event.namespace] = event
                    seen |= ways
        return list(found.values())


def _by_outcome(events: Iterable[BoundEvent]) -> ByOutcome:
    events = tuple(events)
    return {kind: tuple(event for event in events if event.declaration.condition in met) for kind, met in CONDITIONS_MET.items()}


EMPTY = BoundStep(())
