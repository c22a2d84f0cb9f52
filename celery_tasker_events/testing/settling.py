"""Waits until what a test has set off in this process is done: its tasks, and their events."""

from __future__ import annotations

import time

from celery_tasker_events.plugin import attached_plugins
from celery_tasker_events.testing.running_tasks import RunningTasks

__all__ = ["settle"]


def settle(running: RunningTasks, timeout: float) -> None:
    """Wait until the tasks that run on other threads have ended and all events are at the ends of their paths.

    Args:
        timeout: Seconds.

    Raises:
        AssertionError: if that takes longer.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + timeout
    if not running.wait(timeout):
        raise AssertionError(f"A task still runs in this process after {timeout:g} s: {', '.join(running.names())}")
    for plugin in attached_plugins():
        if not plugin.drain(max(0.0, deadline - time.monotonic())):
            raise AssertionError(
                f"The domain events of {plugin.app!r} were not published within {timeout:g} s: does a publisher's hook or a"
                " subscriber hang?"
            )
