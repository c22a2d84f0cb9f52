"""A lock that no fork leaves locked for ever in the child."""

from __future__ import annotations

import os
import threading
import weakref

__all__ = ["ForkLock"]


class ForkLock:
    """A reentrant lock for a ``with`` block. A fork waits until nobody is inside, and the child has a new one.

    What a thread does inside is thereby whole in the child, locks of others that it takes there included.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        self._lock = threading.RLock()


_locks: weakref.WeakSet[ForkLock] = weakref.WeakSet()

#: What the forking thread holds.
_held: list[ForkLock] = []


#: Held from before a fork until after it, so that two threads that fork at once do not mix what they hold.
_forking = threading.Lock()


def _before_fork() -> None:
    _forking.acquire()
    for lock in list(_locks):
        lock.__enter__()
        _held.append(lock)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().__exit__()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking
    _forking = threading.Lock()
    while _held:
        _held.pop().renew()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
