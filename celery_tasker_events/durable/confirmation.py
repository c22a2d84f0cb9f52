"""Confirmation: lets a task's thread wait until the events that it was promised are committed."""

from __future__ import annotations

import threading

__all__ = ["Confirmation"]


class Confirmation:
    """Counts how many of a step's events are not settled yet.

    An event is settled when it is committed, parked as a dead letter, vetoed, or lost; only the last is no success.
    """

    def __init__(self, count: int) -> None:
        self._left = count
        self._kept = True
        self._lock = threading.Lock()
        self._settled = threading.Event()

    def settle(self, *, kept: bool) -> None:
        """Tell that one more event is settled, and whether it is in a safe place or was not wanted."""
        with self._lock:
            self._left -= 1
            self._kept = self._kept and kept
            if self._left <= 0:
                self._settled.set()

    def wait(self, timeout: float) -> bool:
        """Wait up to that many seconds until every event is settled; return whether all are and none was lost."""
        return self._settled.wait(timeout) and self._kept
