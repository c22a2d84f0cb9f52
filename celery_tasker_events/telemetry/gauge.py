"""A momentary value of one process, such as how many events wait, kept up to date on its sheet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import IntEnum

from celery_tasker_events.telemetry.sheet import GAUGE, Sheet

__all__ = ["ConnectionState", "Gauge", "is_worth_telling"]


class ConnectionState(IntEnum):
    """How a process' last attempt to reach Postgres went; of several databases, the worst counts."""

    UNUSED = 0
    CONNECTED = 1
    DOWN = 2


def is_worth_telling(depth: int) -> bool:
    """Whether to tell a gauge of a depth that moves by one at a time: up to 32 of each, beyond of round numbers.

    To tell costs as much as to put, and whoever looks is right within an eighth. Nothing waiting is always told.
    """
    return depth & -depth >= depth >> 4


class Gauge:
    """Writes a value down whenever it is told that it has changed.

    Args:
        key: What is measured, without the leading :data:`GAUGE`.
        read: Returns the value now.
    """

    def __init__(self, sheet: Sheet, *key: str, read: Callable[[], int]) -> None:
        self._sheet = sheet
        self._key = (GAUGE, *key)
        self._read = read
        self._lock = threading.Lock()
        self._is_stale = False

    def update(self) -> None:
        """Call this after a change, on any thread: it never waits for another one."""
        # Whoever finds the lock taken leaves the work to its holder, who looks again after each time. So what was written
        # last was read after the last change.
        self._is_stale = True
        while self._is_stale and self._lock.acquire(blocking=False):
            try:
                self._is_stale = False
                self._sheet.set(self._key, self._read())
            finally:
                self._lock.release()
