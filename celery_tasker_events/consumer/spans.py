"""What a span is to those who need not know whether there is one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.telemetry.log import RateLimitedWarning, error_fields

__all__ = ["Sending", "told"]

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
def told() -> Iterator[None]:
    """Log an error instead of raising it: a user's sampler or span processor must not cost an event."""
    try:
        yield
    except Exception as error:
        fields = error_fields(error)
        _trouble.add(fields["error_type"], fields["error"], fields=lambda: fields)
