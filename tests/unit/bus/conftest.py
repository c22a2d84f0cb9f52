"""Benches and gates; a bench is closed at the end of its test."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from .bench import LONG, Bench, Gate, StuckLog

NewBench = Callable[..., Bench]


@pytest.fixture
def new_bench() -> Iterator[NewBench]:
    benches: list[Bench] = []

    def create(**options: object) -> Bench:
        benches.append(Bench(**options))
        return benches[-1]

    yield create
    for bench in benches:
        bench.bus.close(5)
    # What the watch still has to log belongs to this test, and not to the next one's log.
    for thread in threading.enumerate():
        if thread.name == "tasker-events-bus-watch":
            thread.join(LONG)


@pytest.fixture
def bench(new_bench: NewBench) -> Bench:
    return new_bench()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def stuck_log() -> Iterator[StuckLog]:
    """The package's log waits for something until the end of the test."""
    handler = StuckLog()
    logging.getLogger("celery_tasker_events").addHandler(handler)
    yield handler
    handler.open.set()
    logging.getLogger("celery_tasker_events").removeHandler(handler)
