"""Starts this package's threads, keeps signals away from them, lets them sleep, and waits for their end.

A signal to a process is delivered to any thread that does not block it, even to one that has been joined and is not quite gone.
billiard's child blocks SIGTERM on its main thread while it holds the lock that all children share, as the main process kills it
as soon as its last word is read. Delivered to another thread the signal kills it nevertheless, and the lock is never let go.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator

__all__ = ["Sleep", "join_thread", "start_thread", "unsignalled"]

_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}


class Sleep:
    """Where one thread waits until another ends its sleep; both hold the lock. It may wake up without cause.

    It does in C what a condition does in Python, which is slow after a pause, when no cache holds it.
    """

    def __init__(self, lock: threading.Condition) -> None:
        self._lock = lock
        self._goes_on = False
        # Not imported by its name: what is patched for greenlets may be patched only after this file was loaded.
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def begin(self) -> None:
        """Sleep, without the lock."""
        self._goes_on = True
        self._lock.release()
        try:
            self._ended.get()
        finally:
            self._lock.acquire()

    def end(self) -> None:
        """Wake the thread if it sleeps."""
        if self._goes_on:
            # First, as a signal's handler may raise in between: to wake up once too often does no harm.
            self._ended.put(None)
            self._goes_on = False


def start_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread that no signal finds at its end.

    Until then it takes signals as any thread does: a program that code of the user's starts there inherits what is blocked.
    """
    starter = threading.get_native_id()

    def run() -> None:
        try:
            target()
        finally:
            # A greenlet that stands for a thread runs on the main thread, which goes on.
            if threading.get_native_id() != starter:
                signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def join_thread(thread: threading.Thread, timeout: float) -> None:
    """Wait up to that many seconds for the end of a thread, as ``thread.join`` does where eventlet has not replaced it."""
    try:
        thread.join(timeout)
    except BaseException as error:
        # On Python 3.13 eventlet's join raises when the time is over. A timeout of its caller's, who wants it, may come, too.
        eventlet = sys.modules.get("eventlet")
        if eventlet is None or not isinstance(error, eventlet.Timeout) or error.seconds != timeout:
            raise


@contextlib.contextmanager
def unsignalled() -> Iterator[None]:
    """What starts inside the block, and whatever that starts, takes no signal at all: for threads without code of the user's."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
