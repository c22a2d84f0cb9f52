"""The consumer's span through opentelemetry-api. Nothing imports this file unless somebody has loaded OpenTelemetry."""

from __future__ import annotations

from contextlib import AbstractContextManager

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.telemetry.otel import SCOPE
from celery_tasker_events.version import __version__

__all__ = ["span"]

_propagator = TraceContextTextMapPropagator()


def span(delivery: Delivery) -> AbstractContextManager[trace.Span]:
    """Return the span of one handling, current while it is entered; its parent is what the message's headers name."""
    traceparent = delivery.headers.get("traceparent")
    carrier = {"traceparent": traceparent} if isinstance(traceparent, str) else {}
    event = delivery.event
    return trace.get_tracer(SCOPE, __version__).start_as_current_span(
        f"process {event.event_name}",
        _propagator.extract(carrier),
        trace.SpanKind.CONSUMER,
        {
            "event_name": event.event_name,
            "event_id": event.event_id,
            "namespace": event.metadata.namespace,
            "correlation_id": event.metadata.correlation_id,
            "attempt": delivery.attempt,
            "messaging.system": "pgmq",
            "messaging.destination.name": delivery.queue,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.message.id": str(delivery.message_id),
            "messaging.message.conversation_id": event.metadata.correlation_id,
        },
    )
