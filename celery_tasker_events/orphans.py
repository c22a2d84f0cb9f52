"""Runtimes whose plugin is gone, as when a module is loaded anew: what they accepted is published nevertheless."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from celery_tasker_events.threads import start_thread

if TYPE_CHECKING:
    from celery_tasker_events.runtime import Runtime

__all__ = ["close_orphans", "leave_to_itself"]

#: Runtimes without a plugin, with the seconds that each may take to end.
_orphans: list[tuple[Runtime, float]] = []

#: A forked child keeps its parent's, untouched: to close their connections would break them for the parent.
_inherited: list[tuple[Runtime, float]] = []


def leave_to_itself(owner: object, runtime: Runtime, timeout: float) -> Callable[[], object]:
    """Keep the runtime when its owner is collected; return what undoes this."""
    # The garbage collector may call from anywhere, so nothing is started or waited for there.
    finalizer = weakref.finalize(owner, _orphans.append, (runtime, timeout))
    finalizer.atexit = False
    return finalizer.detach


def close_orphans() -> None:
    """End what is without a plugin, on a thread of its own."""
    if _orphans:
        start_thread(_close_orphans, "tasker-events-orphans")


def _close_orphans() -> None:
    while _orphans:
        runtime, timeout = _orphans[0]
        runtime.close(timeout)
        # Only now, so that the end of the interpreter waits for it.
        if (runtime, timeout) in _orphans:
            _orphans.remove((runtime, timeout))


def _after_fork_in_child() -> None:
    _inherited.extend(_orphans)
    _orphans.clear()


atexit.register(_close_orphans)
os.register_at_fork(after_in_child=_after_fork_in_child)
