"""Iterating: one event after the other in the caller's own thread, settled when the next one is asked for."""

from __future__ import annotations

from collections.abc import Generator

from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.engine import Engine
from celery_tasker_events.consumer.failing import Exhausted
from celery_tasker_events.consumer.handling import Handling, Interrupted, Marks
from celery_tasker_events.consumer.settling import Settlement

__all__ = ["iterate"]

#: What an idempotency store knows the loop by.
HANDLER = "loop"


def iterate(engine: Engine, handling: Handling) -> Generator[Delivery, None, None]:
    """Yield what the engine hands out, until it hands out no more."""
    while (message := engine.take()) is not None:
        opened = handling.open(message)
        if isinstance(opened, Settlement):
            engine.settle(opened)
            continue
        marks = Marks()
        # Whatever ends this before the next event is asked for, the message is given back.
        settlement: Settlement | None = None
        try:
            if handling.claim(HANDLER, opened, marks):
                yield opened
                settlement = handling.succeeded(message, opened, marks, is_new=True)
            else:
                settlement = handling.succeeded(message, opened, marks, is_new=False)
        except (Interrupted, Exhausted) as error:
            settlement = handling.failed(message, opened, error, marks)
        finally:
            engine.settle(handling.given_back(message, opened, marks) if settlement is None else settlement)
