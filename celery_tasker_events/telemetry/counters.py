"""Counters of one process: how many events were published, dispatched, failed and dropped."""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple

__all__ = ["Counters", "Series"]


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
    """Thread-safe counts by series."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Series] = Counter()

    def add(self, name: str, event_name: str, namespace: str, reason: str = "", amount: int = 1) -> None:
        with self._lock:
            self._counts[Series(name, event_name, namespace, reason)] += amount

    def snapshot(self) -> dict[Series, int]:
        with self._lock:
            return dict(self._counts)

    def total(self, name: str) -> int:
        """Sum over all series of that name."""
        return sum(count for series, count in self.snapshot().items() if series.name == name)
