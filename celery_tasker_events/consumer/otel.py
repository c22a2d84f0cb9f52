"""The consumer's and the forwarder's spans through opentelemetry-api. Nothing imports this file unless somebody has loaded it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.spans import Sending, told
from celery_tasker_events.telemetry.log import error_fields
from celery_tasker_events.telemetry.otel import SCOPE
from celery_tasker_events.version import __version__

__all__ = ["SendingSpan", "continuing", "processing"]

_propagator = TraceContextTextMapPropagator()


def processing(delivery: Delivery) -> AbstractContextManager[trace.Span]:
    """Return the span of one handling, current while it is entered; its parent is what the message's headers name."""
    attributes = {
        "messaging.system": "pgmq",
        "messaging.destination.name": delivery.queue,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": str(delivery.message_id),
    }
    return _tracer().start_as_current_span(
        f"process {delivery.event.event_name}",
        _context_of(delivery),
        trace.SpanKind.CONSUMER,
        {**_attributes_of(delivery), **attributes},
    )


@contextlib.contextmanager
def continuing(delivery: Delivery) -> Iterator[None]:
    """Make the span that the message's headers name the current one."""
    token = context.attach(_context_of(delivery))
    try:
        yield
    finally:
        context.detach(token)


class SendingSpan(Sending):
    """The span of one event's way to a target, however often that has to be asked; its parent is what the headers name."""

    def __init__(self, delivery: Delivery, system: str, destination: str) -> None:
        attributes = {
            "messaging.system": system,
            "messaging.destination.name": destination,
            "messaging.operation.name": "forward",
            "messaging.operation.type": "send",
            "messaging.message.id": delivery.event.event_id,
        }
        self._span = _tracer().start_span(
            f"forward {delivery.event.event_name}",
            _context_of(delivery),
            trace.SpanKind.PRODUCER,
            {**_attributes_of(delivery), **attributes},
        )
        kept = {key: value for key, value in delivery.headers.items() if key not in _propagator.fields}
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(self._span, context.Context()))
        super().__init__(dataclasses.replace(delivery, headers={**kept, **carrier}))

    def end(self, error: BaseException | None = None) -> None:
        with told():
            if error is not None:
                fields = error_fields(error)
                self._span.set_attribute("error.type", fields["error_type"])
                self._span.set_status(trace.StatusCode.ERROR, fields["error"])
            self._span.end()


def _tracer() -> trace.Tracer:
    return trace.get_tracer(SCOPE, __version__)


def _context_of(delivery: Delivery) -> context.Context:
    carrier = {key: value for key in _propagator.fields if isinstance(value := delivery.headers.get(key), str)}
    return _propagator.extract(carrier, context.Context())


def _attributes_of(delivery: Delivery) -> dict[str, str | int]:
    event = delivery.event
    return {
        "event_name": event.event_name,
        "event_id": event.event_id,
        "namespace": event.metadata.namespace,
        "correlation_id": event.metadata.correlation_id,
        "attempt": delivery.attempt,
        "messaging.message.conversation_id": event.metadata.correlation_id,
    }
