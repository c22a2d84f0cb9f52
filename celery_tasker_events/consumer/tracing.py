"""Tracing: a span for each handling and each forwarding of an event, where somebody uses OpenTelemetry.

It goes on with the trace that published the event.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.telemetry.log import RateLimitedWarning, error_fields

__all__ = ["Sending", "continuing", "processing", "sending"]

_trouble = RateLimitedWarning("%d events without a span: OpenTelemetry failed: %s: %s")


class Sending:
    """The way of one event to a target; where OpenTelemetry is used, a span.

    Attributes:
        delivery: What to publish; its ``traceparent`` is that of the span, if there is one.
    """

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery

    def end(self, error: BaseException | None = None) -> None:
        """Say that the target has it, or why not; it raises nothing."""


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


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Log an error instead of raising it: a user's sampler or span processor must not cost an event."""
    try:
        yield
    except Exception as error:
        fields = error_fields(error)
        _trouble.add(fields["error_type"], fields["error"], fields=lambda: fields)


def _loaded() -> ModuleType | None:
    # Only who has loaded OpenTelemetry can have configured it.
    if "opentelemetry" not in sys.modules:
        return None
    try:
        from celery_tasker_events.consumer import otel
    except ImportError:  # some other part of its namespace is loaded, without its API
        return None
    return otel
