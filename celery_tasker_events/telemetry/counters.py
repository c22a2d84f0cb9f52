"""Counters of one process: how many events were published, dispatched, failed and dropped."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from celery_tasker_events.telemetry.sheet import Sheet

__all__ = ["BY_MODE", "CALL", "COUNTERS", "EVENT", "NAMES", "Counters", "Series"]

#: All counters with what they count, in the order of an event's way.
COUNTERS: Mapping[str, str] = {
    "published": "Domain events committed to PGMQ, or written in their caller's transaction",
    "dispatched": "Calls of in-process subscribers that returned",
    "failed": "Domain events that an error kept from where they were going",
    "dropped": "Domain events for which a buffer had no room",
    "spooled": "Durable domain events that had to wait on disk",
    "dead_lettered": "Domain events parked in a dead letter queue",
    "skipped": "Domain events that were not due after all",
}

NAMES = tuple(COUNTERS)

#: Of these the series' reason is the way that the event took.
BY_MODE = frozenset({"published", "dead_lettered"})

#: First part of a sheet's key. Then come name, event, namespace, reason and delivery mode ...
EVENT = "event"

#: ... or the subscriber and how the call ended.
CALL = "call"


class Series(NamedTuple):
    """One counter's name and what tells its series apart.

    ``name`` is one of: ``published`` (committed to PGMQ, or written in the caller's own transaction), ``dispatched`` (a
    subscriber was called), ``failed`` (an error on the way, ``reason`` says which), ``dropped`` (a buffer was full),
    ``dead_lettered``, ``spooled`` (had to wait on disk; it is published or dead-lettered in the end), ``skipped`` (a
    publisher or a subscriber decided against it, or it had come before). The ``reason`` of what was published or
    dead-lettered is its delivery mode, or ``transaction``.
    """

    name: str
    event_name: str
    namespace: str
    reason: str = ""


class Counters:
    """Thread-safe counts by series.

    Args:
        sheet: Where they are counted too, for the sums over all processes of a worker.
    """

    def __init__(self, sheet: Sheet | None = None) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        self._sheet = sheet or Sheet()

    def add(self, name: str, event_name: str, namespace: str, reason: str = "", amount: int = 1, *, mode: str = "") -> None:
        """Count.

        Args:
            mode: The event's delivery mode, where the reason does not say it; for the sheet only.
        """
        with self._lock:
            self._counts[name, event_name, namespace, reason] += amount
        self._sheet.add((EVENT, name, event_name, namespace, reason, mode), amount)

    def add_call(self, subscriber: str, result: str, amount: int = 1) -> None:
        """Count calls of a subscriber and how they ended, on the sheet only."""
        self._sheet.add((CALL, subscriber, result), amount)

    def snapshot(self) -> dict[Series, int]:
        with self._lock:
            return {Series(*series): count for series, count in self._counts.items()}

    def total(self, name: str) -> int:
        """Sum over all series of that name."""
        return sum(count for series, count in self.snapshot().items() if series.name == name)
