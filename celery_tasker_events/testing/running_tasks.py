"""Which tasks run in this process: a worker's thread tells a task's result before it tells what came of it."""

from __future__ import annotations

import threading
import time
from typing import Any

from celery import signals

__all__ = ["RunningTasks"]

#: Seconds between two looks. There is no lock: a process that is forked meanwhile would inherit it locked.
_INTERVAL = 0.002


class RunningTasks:
    """Counts the tasks between their begin and their end, from :meth:`connect` to :meth:`disconnect`.

    Attributes:
        seen: How many have begun.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._running: list[tuple[str, str, int]] = []

    def connect(self) -> None:
        signals.task_prerun.connect(self._begin, weak=False, dispatch_uid=id(self))
        signals.task_postrun.connect(self._end, weak=False, dispatch_uid=id(self))

    def disconnect(self) -> None:
        signals.task_prerun.disconnect(dispatch_uid=id(self))
        signals.task_postrun.disconnect(dispatch_uid=id(self))

    def names(self) -> list[str]:
        """Those that run now on other threads than the caller's."""
        here = threading.get_ident()
        return [name for name, _, thread in list(self._running) if thread != here]

    def wait(self, timeout: float) -> bool:
        """Wait up to that many seconds until none runs on another thread; return whether none does."""
        deadline = time.monotonic() + timeout
        while self.names():
            if time.monotonic() > deadline:
                return False
            time.sleep(_INTERVAL)
        return True

    def _begin(self, sender: Any = None, task_id: str = "", **_: Any) -> None:
        self.seen += 1
        self._running.append((sender.name, task_id, threading.get_ident()))

    def _end(self, sender: Any = None, task_id: str = "", **_: Any) -> None:
        entry = (sender.name, task_id, threading.get_ident())
        # One that had begun before this was connected is not among them.
        if entry in self._running:
            self._running.remove(entry)
