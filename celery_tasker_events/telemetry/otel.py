"""Spans and metrics through opentelemetry-api. Nothing imports this file unless somebody has loaded OpenTelemetry."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from celery_tasker_events.telemetry.counters import BY_MODE, COUNTERS, Counters, Series
from celery_tasker_events.telemetry.log import error_fields
from celery_tasker_events.telemetry.trail import Trail
from celery_tasker_events.version import __version__

__all__ = ["SCOPE", "Otel", "otel_of_process"]

#: Name of the meter and of the tracer.
SCOPE = "tasker"

_propagator = TraceContextTextMapPropagator()

Channels = Mapping[str, Callable[[], int]]


class Otel:
    """The instruments of one process. The API makes them real as soon as an SDK is configured, before or after.

    Args:
        tracer_provider: By default the global one.
        meter_provider: By default the global one.
    """

    def __init__(
        self, tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None
    ) -> None:
        self._tracer_provider = tracer_provider
        self._tracer = trace.get_tracer(SCOPE, __version__, tracer_provider)
        self._lock = threading.Lock()
        self._counters: list[Counters] = []
        self._channels: list[Channels] = []
        meter = metrics.get_meter(SCOPE, __version__, meter_provider)
        for name, description in COUNTERS.items():
            meter.create_observable_counter(
                f"tasker.domain_events.{name}.total", [functools.partial(self._totals, name)], "{event}", description
            )
        meter.create_observable_gauge(
            "tasker.domain_events.channel_depth", [self._depths], "{item}", "Items that wait in a buffer of this process"
        )
        self._duration = meter.create_histogram(
            "tasker.domain_event.publish.duration", "ms", "Time from a step's outcome to the commit of its event"
        )

    def watch(self, counters: Counters, channels: Channels) -> None:
        """Report these counters and buffers from now on; a second call for the same ones changes nothing."""
        with self._lock:
            if any(known is counters for known in self._counters):
                return
            # A counter never goes down, so those of a runtime that has ended count on.
            self._counters.append(counters)
            self._channels.append(channels)

    def forget(self, channels: Channels) -> None:
        """Report these buffers no more."""
        with self._lock:
            self._channels = [known for known in self._channels if known is not channels]

    def after_fork_in_child(self) -> None:
        """Forget all that was the parent's."""
        self._lock = threading.Lock()
        self._counters = []
        self._channels = []

    def trail(self, fields: Mapping[str, Any], fired_at: float, span_context: trace.SpanContext | None) -> Trail:
        parent = Context() if span_context is None else trace.set_span_in_context(trace.NonRecordingSpan(span_context), Context())
        span = self._start_span(fields, fired_at, parent)
        carrier: dict[str, str] = {}
        if span is not None or span_context is not None:
            _propagator.inject(carrier, parent if span is None else trace.set_span_in_context(span, Context()))
        return _OtelTrail(fields, fired_at, span, self._duration, carrier.get("traceparent"))

    def _start_span(self, fields: Mapping[str, Any], fired_at: float, parent: Context) -> trace.Span | None:
        provider = self._tracer_provider or trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider):  # no SDK is configured
            return None
        is_durable = fields["delivery_mode"] != "fast"
        attributes = {
            "event_name": fields["event_name"],
            "event_id": fields["event_id"],
            "namespace": fields["namespace"],
            "correlation_id": fields["correlation_id"],
            "delivery_mode": fields["delivery_mode"],
            "messaging.system": "pgmq" if is_durable else "in_process",
            "messaging.destination.name": fields["queue_name"] if is_durable else fields["event_name"],
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.message.conversation_id": fields["correlation_id"],
        }
        return self._tracer.start_span(
            f"publish {fields['event_name']}",
            parent,
            trace.SpanKind.PRODUCER,
            attributes,
            start_time=int(fired_at * 1e9),
        )

    def _totals(self, name: str, _options: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            snapshots = [counters.snapshot() for counters in self._counters]
        totals: Counter[Series] = Counter()
        for snapshot in snapshots:
            totals.update({series: count for series, count in snapshot.items() if series.name == name})
        return [Observation(count, _attributes(series)) for series, count in totals.items()]

    def _depths(self, _options: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            channels = list(self._channels)
        depths: Counter[str] = Counter()
        for known in channels:
            for name, depth in known.items():
                depths[name] += depth()
        return [Observation(depth, {"channel": name}) for name, depth in depths.items()]


class _OtelTrail(Trail):
    def __init__(
        self,
        fields: Mapping[str, Any],
        fired_at: float,
        span: trace.Span | None,
        duration: metrics.Histogram,
        traceparent: str | None,
    ) -> None:
        self._fields = fields
        self._fired_at = fired_at
        self._span = span
        self._duration = duration
        self.traceparent = traceparent

    def published(self, message_id: int | None = None) -> None:
        # A clock that was set back in the meantime makes no negative duration.
        milliseconds = max(0.0, (time.time() - self._fired_at) * 1000)
        attributes = {key: self._fields[key] for key in ("event_name", "namespace", "delivery_mode")}
        try:
            self._duration.record(milliseconds, attributes)
        finally:
            if self._span is not None:
                if message_id is not None:
                    self._span.set_attribute("messaging.message.id", str(message_id))
                self._span.end()

    def spooled(self) -> None:
        if self._span is not None:
            self._span.set_attribute("spooled", True)
            self._span.end()
            self._span = None

    def failed(self, stage: str, error: BaseException | None = None) -> None:
        if self._span is None:
            return
        told = {"error": stage, "error_type": stage} if error is None else error_fields(error)
        self._span.set_attribute("error.type", told["error_type"])
        self._span.set_attribute("failed_stage", stage)
        self._span.set_status(trace.StatusCode.ERROR, told["error"])
        self._span.end()


def _attributes(series: Series) -> dict[str, str]:
    attributes = {"event_name": series.event_name, "namespace": series.namespace}
    if series.reason:
        attributes["delivery_mode" if series.name in BY_MODE else "reason"] = series.reason
    return attributes


_making = threading.Lock()
_made: Otel | None = None


def otel_of_process() -> Otel:
    """Return this process' instruments, made when they are first asked for.

    There is one set of them: the SDK ignores what an observable instrument of the same name would report.
    """
    global _made
    with _making:
        if _made is None:
            _made = Otel()
        return _made


def _after_fork_in_child() -> None:
    # An SDK that was configured before the fork is inherited, and the instruments with it; what they report is not.
    global _making
    _making = threading.Lock()
    if _made is not None:
        _made.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
