"""A bus with its registry and counters, for the tests of this folder."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any

from celery_tasker_events.bus.bus import InProcessBus
from celery_tasker_events.bus.registry import SubscriberRegistry
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.counters import Counters, Series

LONG = 30.0


class Bench:
    """A bus with its registry and counters."""

    def __init__(self, **options: Any) -> None:
        self.registry = SubscriberRegistry()
        self.counters = Counters()
        settings = {"buffer_size": 100, "timeout": LONG, "deduplication_size": 0, "log_errors": True, "log_dropped": True}
        self.bus = InProcessBus(self.registry, self.counters, **{**settings, **options})

    def count(self, name: str, reason: str = "", event_name: str = "payment.processed") -> int:
        return self.counters.snapshot().get(Series(name, event_name, "payments", reason), 0)


class Gate:
    """A subscriber that waits until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, event: DomainEvent) -> None:
        self.entered.set()
        assert self.open.wait(LONG)


class StuckLog(logging.Handler):
    """A log handler that waits, as for a disk, until it is let go; not for ever, so that a test fails instead of hanging."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.open = threading.Event()
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.entered.set()
        self.open.wait(5)
        self.written.append(record.getMessage())


def exit_code_of_a_forked_child(work: Callable[[], int]) -> int:
    """Do the work in a forked child; return what it returned, a number from 0 to 100."""
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork beside threads: that such a fork works is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 101
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
