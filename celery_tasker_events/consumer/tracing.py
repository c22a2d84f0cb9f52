"""Tracing: a span for the handling of each event, below the one that published it, where somebody uses OpenTelemetry."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.telemetry.log import RateLimitedWarning, error_fields

__all__ = ["processing"]

_trouble = RateLimitedWarning("%d events handled without a span: OpenTelemetry failed: %s: %s")


@contextlib.contextmanager
def processing(delivery: Delivery) -> Iterator[None]:
    """Be inside a span while the event is handled; an error that passes through is told in it."""
    with contextlib.ExitStack() as stack:
        # Only who has loaded OpenTelemetry can have configured it.
        if "opentelemetry" in sys.modules:
            try:
                from celery_tasker_events.consumer.otel import span

                stack.enter_context(span(delivery))
            except ImportError:  # some other part of its namespace is loaded, without its API
                pass
            except Exception as error:  # a user's sampler or span processor must not cost an event
                told = error_fields(error)
                _trouble.add(told["error_type"], told["error"], fields=lambda: told)
        yield
