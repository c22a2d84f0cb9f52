"""Statistics: what a consumer has done so far, as plain numbers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

__all__ = ["OUTCOMES", "Statistics"]

#: What is counted: messages read; then what became of each of them, once that was committed; then leases that ended before.
OUTCOMES = (
    "received",
    "handled",
    "retried",
    "dead_lettered",
    "duplicates",
    "unmatched",
    "given_back",
    "unsettled",
    "lost_leases",
)


class Statistics:
    """Thread-safe counts since the consumer was made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))

    def add(self, outcomes: Iterable[str]) -> None:
        """Count each of the outcomes once."""
        with self._lock:
            self._counts.update(outcomes)

    def snapshot(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)
