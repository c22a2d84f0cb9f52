"""A declaration bound to a step, with all that can be worked out once, before any event is published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from celery_tasker_events.declaration import EventDeclaration
from celery_tasker_events.event import queue_name
from celery_tasker_events.outcome import CONDITIONS_MET, OutcomeKind
from celery_tasker_events.publisher import BasePublisher
from celery_tasker_events.schema import PayloadValidator

__all__ = ["EMPTY", "BoundEvent", "BoundStep"]


@dataclass(frozen=True)
class BoundEvent:
    """One event of one step, ready to be published."""

    declaration: EventDeclaration
    namespace: str
    step_name: str | None
    publisher: BasePublisher
    validator: PayloadValidator | None

    @property
    def queue_name(self) -> str:
        return queue_name(self.namespace)


class BoundStep:
    """All events of one Celery task, by the outcome on which they are due."""

    __slots__ = ("by_outcome", "events", "needs_inputs")

    def __init__(self, events: Iterable[BoundEvent]) -> None:
        self.events = tuple(events)
        self.by_outcome: Mapping[OutcomeKind, tuple[BoundEvent, ...]] = {
            kind: tuple(event for event in self.events if event.declaration.condition in met)
            for kind, met in CONDITIONS_MET.items()
        }
        # Arguments are copied on the task's thread, so only for publishers that may look at them.
        self.needs_inputs = any(event.declaration.publisher is not None for event in self.events)


EMPTY = BoundStep(())
