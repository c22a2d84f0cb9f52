"""What tests of the pipeline share: one with paths that record what they get."""

from __future__ import annotations

from typing import Any

from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.envelope import by_name
from celery_tasker_events.outcome import StepOutcome
from celery_tasker_events.pipeline import Pipeline, Publication
from celery_tasker_events.router import Router
from celery_tasker_events.telemetry.counters import Counters, Series

from .making import RecordingBus, RecordingDurable


class Bench:
    """A pipeline with paths that record."""

    def __init__(self, bus: RecordingBus | None = None) -> None:
        self.bus = bus or RecordingBus()
        self.durable = RecordingDurable()
        self.counters = Counters()
        self.pipeline = Pipeline(Router(self.bus, self.durable, by_name("native"), self.counters), self.durable, self.counters)

    def publish(self, outcome: StepOutcome, *bounds: BoundEvent, **fields: Any) -> None:
        self.pipeline.publish(Publication(outcome, bounds, **fields))

    def count(self, name: str, event_name: str, reason: str) -> int:
        return self.counters.snapshot().get(Series(name, event_name, "payments", reason), 0)
