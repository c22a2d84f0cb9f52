"""MetricsSubscriber: a ready-made subscriber that counts events."""

from __future__ import annotations

import datetime
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_tasker_events.bus.fork import renew_in_children
from celery_tasker_events.bus.subscriber import BaseSubscriber
from celery_tasker_events.event import DomainEvent

__all__ = ["EventMetrics", "MetricsSubscriber"]


@dataclass(frozen=True)
class EventMetrics:
    """What a MetricsSubscriber had counted when it was asked.

    Attributes:
        received: All events.
        success: Events of steps that succeeded, and those published by hand.
        failure: Events of steps that failed, retried ones included.
        by_namespace: Events by namespace.
        by_event: Events by name.
        last_event_at: When the last one came, UTC; None if none did.
    """

    received: int = 0
    success: int = 0
    failure: int = 0
    by_namespace: Mapping[str, int] = field(default_factory=dict)
    by_event: Mapping[str, int] = field(default_factory=dict)
    last_event_at: datetime.datetime | None = None


class MetricsSubscriber(BaseSubscriber):
    """Counts the events of its process; thread-safe. A forked child begins at zero.

    Args:
        subscribes_to: One pattern or several.
    """

    def __init__(self, *, subscribes_to: Any = "*") -> None:
        self.subscribes_to = subscribes_to
        self._lock = threading.Lock()
        self._last_event_at: datetime.datetime | None = None
        self._begin()
        renew_in_children(self)

    def handle(self, event: DomainEvent) -> None:
        with self._lock:
            if event.execution_result.success:
                self._success += 1
            else:
                self._failure += 1
            self._by_namespace[event.metadata.namespace] += 1
            self._by_event[event.event_name] += 1
            self._last_event_at = datetime.datetime.now(datetime.timezone.utc)

    def snapshot(self) -> EventMetrics:
        """All counts, as they were at one moment."""
        with self._lock:
            return EventMetrics(
                received=self._success + self._failure,
                success=self._success,
                failure=self._failure,
                by_namespace=dict(self._by_namespace),
                by_event=dict(self._by_event),
                last_event_at=self._last_event_at,
            )

    def reset(self) -> None:
        """Begin at zero again."""
        with self._lock:
            self._begin()

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._success = 0
        self._failure = 0
        self._by_namespace: Counter[str] = Counter()
        self._by_event: Counter[str] = Counter()
        self._last_event_at = None
