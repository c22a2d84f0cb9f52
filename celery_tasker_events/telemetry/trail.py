"""Trail: what telemetry follows of one event, from its outcome to its commit; this one leaves no trace at all."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["NO_TRAIL", "Trail", "current_span_context", "span_context_from", "traceparent_of"]


class Trail:
    """One event on its way. Whoever brings it to its end says how: once, on any thread.

    Attributes:
        traceparent: W3C trace context that goes with the event, or None where there is no trace.
    """

    traceparent: str | None = None

    def published(self, message_id: int | None = None) -> None:
        """The event is committed, or for a fast one, handed to the bus.

        Args:
            message_id: PGMQ's id of the message; None for a fast event.
        """

    def spooled(self) -> None:
        """The event waits on disk, for this process or another to publish it: nothing more is followed of it."""

    def failed(self, stage: str, error: BaseException | None = None) -> None:
        """The event will never be published.

        Args:
            stage: Where on its way, such as ``"schema"``.
        """


NO_TRAIL = Trail()


def current_span_context() -> Any:
    """Return OpenTelemetry's context of the span that is current on this thread, or None where there is none.

    It is called on the task's thread: it costs a look-up where nobody has loaded OpenTelemetry, and loads nothing.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        context = trace.get_current_span().get_span_context()
        return context if context.is_valid else None
    except Exception:  # another thread may just be importing it, and a tracer's own spans may be broken: no event is lost for it
        return None


def traceparent_of(span_context: Any) -> str | None:
    """Return a span's context as W3C trace context, to be kept where the process may end; None of None."""
    if span_context is None:
        return None
    return f"00-{span_context.trace_id:032x}-{span_context.span_id:016x}-{span_context.trace_flags:02x}"


def span_context_from(traceparent: str | None) -> Any:
    """Return what :func:`traceparent_of` was given, or None where nobody has loaded OpenTelemetry."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or traceparent is None:
        return None
    _, trace_id, span_id, flags = traceparent.split("-")
    return trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16)))
