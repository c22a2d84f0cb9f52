"""Tracing: a span for each handling and each forwarding of an event, where somebody uses OpenTelemetry.

It goes on with the trace that published the event.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.spans import Sending, told

__all__ = ["continuing", "processing", "sending"]


@contextlib.contextmanager
def processing(delivery: Delivery) -> Iterator[None]:
    """Be inside a span while the event is handled; an error that passes through is told in it."""
    with contextlib.ExitStack() as stack:
        with told():
            if (otel := _loaded()) is not None:
                stack.enter_context(otel.processing(delivery))
        yield


@contextlib.contextmanager
def continuing(delivery: Delivery) -> Iterator[None]:
    """Be inside the trace that the event's headers name: what instruments a client of HTTP or Celery goes on with it."""
    with contextlib.ExitStack() as stack:
        with told():
            if (otel := _loaded()) is not None:
                stack.enter_context(otel.continuing(delivery))
        yield


def sending(delivery: Delivery, system: str, destination: str) -> Sending:
    """Begin to publish an event to a target.

    Args:
        system: OpenTelemetry's ``messaging.system``.
        destination: What there is published to, without secrets.
    """
    with told():
        if (otel := _loaded()) is not None:
            span: Sending = otel.SendingSpan(delivery, system, destination)
            return span
    return Sending(delivery)


def _loaded() -> ModuleType | None:
    # Only who has loaded OpenTelemetry can have configured it.
    if "opentelemetry" not in sys.modules:
        return None
    try:
        from celery_tasker_events.consumer import otel
    except ImportError:  # some other part of its namespace is loaded, without its API
        return None
    return otel
