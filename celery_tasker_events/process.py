"""The runtime of this process: made with its first event, and drained in every way in which a process can end."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.util
import os
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from celery_tasker_events.forking import ForkLock
from celery_tasker_events.orphans import close_orphans, leave_to_itself
from celery_tasker_events.telemetry.flushing import flush_opentelemetry, holds_telemetry

if TYPE_CHECKING:
    from celery_tasker_events.building import Publication
    from celery_tasker_events.diversion import Diversion
    from celery_tasker_events.runtime import Runtime

__all__ = ["ProcessRuntime", "current_diversion", "diverted"]


class ProcessRuntime:
    """Holds the runtime that one plugin has in this process. A forked child has none at first.

    Args:
        make: Makes a runtime, with what stands at the ends of its paths if that is not Postgres and the bus.
        drain_timeout: Seconds that draining may take, if its caller does not say.
        lock: Held while the runtime is made or replaced.
    """

    def __init__(self, make: Callable[[Diversion | None], Runtime], drain_timeout: Callable[[], float], lock: ForkLock) -> None:
        self._make = make
        self._drain_timeout = drain_timeout
        self._lock = lock
        self._runtime: Runtime | None = None
        self._diversion: Diversion | None = None
        self._keep_from_orphanage: Callable[[], object] = lambda: None
        self._closing: list[Runtime] = []
        self._inherited: list[Runtime] = []
        self._ended = False
        _processes.add(self)

    def current(self) -> Runtime:
        with self._lock:
            if self._runtime is None:
                close_orphans()
                self._diversion = current_diversion()
                self._runtime = self._make(self._diversion)
                self._keep_from_orphanage = leave_to_itself(self, self._runtime, self._drain_timeout())
                _drain_before_end_of_child(self)
            return self._runtime

    def put(self, publication: Publication) -> bool:
        """Hand a publication over without waiting; return whether it was accepted."""
        runtime = self._runtime or self.current()
        while not (accepted := runtime.put(publication)) and runtime.closed:
            # Another thread has closed it in this very moment: as ever, a later event starts a new one.
            runtime = self.current()
        if accepted and self._ended:
            # Nobody comes and drains any more, as this is the interpreter's end.
            self.close(None)
        return accepted

    def dispatches_here(self) -> bool:
        """Whether this is the dispatcher's own thread, where a publisher's hook runs: it can't wait for what it puts."""
        return self._runtime is not None and self._runtime.dispatches_here()

    def drain(self, timeout: float | None) -> bool:
        """Wait until all that was accepted is committed and delivered; return whether it is."""
        with self._lock:
            runtime = self._runtime
        if runtime is None and not self._closing:
            return True
        deadline = self._deadline(timeout)
        closed = self._close_all(deadline)
        drained = runtime is None or runtime.drain(_left(deadline))
        return closed and drained

    def close(self, timeout: float | None) -> bool:
        """Drain, then end the threads and connections; return whether all was drained. A later event starts new ones.

        OpenTelemetry is flushed in what is left of the time: spans of steps that published nothing wait there, too.
        """
        with self._lock:
            if self._runtime is not None:
                self._closing.append(self._runtime)
                self._keep_from_orphanage()
                self._runtime = None
        has_telemetry = holds_telemetry()
        if not (self._closing or has_telemetry):
            return True
        deadline = self._deadline(timeout)
        drained = self._close_all(deadline)
        if has_telemetry:
            # Last, as the spans of what was drained are among it.
            flush_opentelemetry(_left(deadline))
        return drained

    def end(self) -> None:
        """Close at the end of the interpreter: whoever publishes even later waits until it is done."""
        self._ended = True
        self.close(None)

    def lay_aside(self, diversion: Diversion) -> Runtime | None:
        """Go on with a new runtime; return the one there is, for :meth:`resume`. All that it accepted is made into events.

        Args:
            diversion: What the new one is made with. If another thread has made it already, nothing is laid aside.
        """
        with self._lock:
            if self._diversion is diversion:
                return None
            runtime, self._runtime = self._runtime, None
            self._keep_from_orphanage()
            self._keep_from_orphanage = lambda: None
        if runtime is not None:
            runtime.wait_until_made(self._drain_timeout())
        return runtime

    def resume(self, runtime: Runtime | None) -> None:
        """Drain and end the runtime there is, and go on with one that was laid aside."""
        with self._lock:
            if self._runtime is not None:
                self._closing.append(self._runtime)
                self._keep_from_orphanage()
            self._runtime = runtime
            self._diversion = current_diversion()
            if runtime is not None:
                self._keep_from_orphanage = leave_to_itself(self, runtime, self._drain_timeout())
        self._close_all(self._deadline(None))

    def after_fork_in_child(self) -> None:
        # The parent's threads do not exist here, its locks may be held for ever, and closing its connections would
        # break them for the parent: all of it is kept, untouched, and never used.
        if self._runtime is not None:
            self._inherited.append(self._runtime)
            self._keep_from_orphanage()
            self._runtime = None
        self._inherited.extend(self._closing)
        self._closing = []
        self._ended = False

    def _close_all(self, deadline: float) -> bool:
        """End what is being closed; return whether all of it drained before the deadline."""
        with self._lock:
            closing = list(self._closing)
        drained = [runtime.close(_left(deadline)) for runtime in closing]
        with self._lock:
            self._closing = [runtime for runtime in self._closing if not runtime.ended]
        return all(drained)

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self._drain_timeout() if timeout is None else timeout)


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _drain_before_end_of_child(process: ProcessRuntime) -> None:
    """Drain at the end of a child of ``multiprocessing``: one that was forked does not call what atexit knows."""
    if multiprocessing.parent_process() is not None:
        find = weakref.ref(process)
        multiprocessing.util.Finalize(None, lambda: (found := find()) and found.close(None), exitpriority=100)


_processes: weakref.WeakSet[ProcessRuntime] = weakref.WeakSet()

#: The last one is in force.
_diversions: list[Diversion] = []


def current_diversion() -> Diversion | None:
    """Return what stands at the ends of the paths in this process, if it is not Postgres and the bus."""
    return _diversions[-1] if _diversions else None


@contextlib.contextmanager
def diverted(diversion: Diversion) -> Iterator[None]:
    """Let all that this process publishes inside the ``with`` block, by whichever app, end at the diversion.

    What was accepted before goes where it was going. At the end what was accepted inside is drained.
    """
    _diversions.append(diversion)
    before = {process: process.lay_aside(diversion) for process in list(_processes)}
    try:
        yield
    finally:
        _diversions.remove(diversion)
        for process in list(_processes):
            process.resume(before.get(process))


def _after_fork_in_child() -> None:
    for process in list(_processes):
        process.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
