"""A thread's turn at calling the subscribers, and how another thread takes a call that hangs out of its hands."""

from __future__ import annotations

import os
import threading
from collections import deque

from celery_tasker_events.bus.calling import GRACE, Caller
from celery_tasker_events.bus.fork import renew_in_children

__all__ = ["Shift"]


class Shift:
    """Has a mark for the call that goes on, so that a call takes no lock.

    The mark is when the call began, on the monotonic clock. The thread leaves it in ``marks`` for the others to see, makes the
    call, and takes it back. To take it is atomic, and only one can: so each call is counted once, by its thread or by the one
    that relieves it. What calls change, such as the :class:`Walk` and its tallies, belongs to whoever has the mark; between two
    calls that is the thread.

    Others take a mark with the lock of the bus held, and put it back before they let go of that, unless they relieve the thread.
    A thread that finds its mark gone waits for the lock, and then knows which it is.

    Attributes:
        relieved: Its mark is gone for good: another thread has taken over.
    """

    def __init__(self) -> None:
        self.marks: deque[float] = deque()
        self.relieved = False
        self.caller = Caller()
        self.thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._waits_since: float | None = None
        renew_in_children(self)

    def began(self) -> float | None:
        """When the call began that goes on; None between two calls."""
        try:
            return self.marks[0]
        except IndexError:
            return None

    def take(self, mark: float) -> bool:
        """Take that mark, with the lock of the bus held; if its call has ended by now, return False and leave all as it is."""
        try:
            taken = self.marks.pop()
        except IndexError:
            return False
        if taken != mark:
            self.marks.append(taken)
        return taken == mark

    def gets_back(self) -> bool:
        """Take back the mark that was gone, with the lock of the bus held; return False if the thread is relieved."""
        if not self.relieved:
            self.marks.pop()
        return not self.relieved

    def waits(self, mark: float) -> None:
        """A coroutine is waited for: it is cancelled in time, and its thread relieved only if it does not heed that."""
        self._waits_since = mark

    def allowance(self, mark: float, timeout: float) -> float:
        """Seconds after which the thread is relieved of the call with that mark."""
        return timeout + GRACE if self._waits_since == mark else timeout

    def end_if_forked(self) -> None:
        """End a child that a subscriber has forked: what waits is the parent's to deliver."""
        if os.getpid() != self._pid:
            os._exit(0)

    def after_fork_in_child(self) -> None:
        # A subscriber that comes back there finds no mark.
        self.marks.clear()
