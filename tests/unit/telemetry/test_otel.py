"""Spans and metrics of a pipeline, seen by OpenTelemetry's own SDK; each test has providers of its own."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, SamplingResult

from celery_tasker_events import envelope, values
from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.outcome import StepOutcome
from celery_tasker_events.pipeline import Pipeline, Publication
from celery_tasker_events.publisher import BasePublisher
from celery_tasker_events.router import Router
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.otel import Otel
from celery_tasker_events.telemetry.telemetry import Telemetry
from celery_tasker_events.telemetry.trail import current_span_context

from ..making import RecordingBus, RecordingDurable, make_bound, make_outcome


class Bench:
    """A pipeline that tells a tracer and a meter of its own."""

    def __init__(self, sampler: Sampler | None = None, bus: RecordingBus | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(sampler=sampler) if sampler else TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.otel = Otel(self.tracer_provider, MeterProvider([self.reader]))
        self.counters = Counters()
        self.durable = RecordingDurable()
        self.depths = {"command": 0}
        self.telemetry = Telemetry(self.counters, {"command": lambda: self.depths["command"]}, self.otel)
        router = Router(bus or RecordingBus(), self.durable, envelope.by_name("native"), self.counters)
        self.pipeline = Pipeline(router, self.durable, self.counters, self.telemetry)

    def publish(self, outcome: StepOutcome | None = None, bound: BoundEvent | None = None) -> DurableMessage | None:
        self.pipeline.publish(Publication(outcome or make_outcome({"amount": 1}), (bound or make_bound(),)))
        return self.durable.messages[-1] if self.durable.messages else None

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Every data point by the name of its metric, with its attributes."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: [(dict(point.attributes or {}), point) for point in metric.data.data_points]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            if scope.scope.name == "tasker"
            for metric in scope.metrics
        }

    def values(self, name: str) -> list[tuple[dict[str, Any], float]]:
        return [(attributes, point.value) for attributes, point in self.metrics().get(name, [])]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def headers(message: DurableMessage | None) -> Mapping[str, Any]:
    assert message is not None
    found: Mapping[str, Any] = values.decode(message.headers)
    return found


# Spans


def test_the_span_of_a_durable_event_ends_with_its_commit_and_tells_where_it_went(bench: Bench) -> None:
    outcome = make_outcome({"amount": 1}, correlation_id="corr-1", fired_at=time.time() - 3)
    message = bench.publish(outcome)
    assert message is not None
    assert bench.spans == []

    message.trail.published(42)

    [span] = bench.spans
    assert span.name == "publish payment.processed"
    assert span.kind is trace.SpanKind.PRODUCER
    assert span.parent is None
    assert span.attributes == {
        "event_name": "payment.processed",
        "event_id": message.fields["event_id"],
        "namespace": "payments",
        "correlation_id": "corr-1",
        "delivery_mode": "durable",
        "messaging.system": "pgmq",
        "messaging.destination.name": "payments_domain_events",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.message.conversation_id": "corr-1",
        "messaging.message.id": "42",
    }
    assert span.start_time is not None
    assert span.end_time is not None
    assert 3e9 <= span.end_time - span.start_time < 60e9


def test_a_fast_event_is_published_when_the_bus_has_it(bench: Bench) -> None:
    bench.publish(bound=make_bound(delivery_mode="fast"))

    [span] = bench.spans
    assert span.attributes is not None
    assert span.attributes["messaging.system"] == "in_process"
    assert span.attributes["messaging.destination.name"] == "payment.processed"
    assert "messaging.message.id" not in span.attributes


def test_the_span_is_a_child_of_the_steps_span_and_its_context_goes_with_the_message(bench: Bench) -> None:
    with bench.tracer_provider.get_tracer("celery").start_as_current_span("run/pay") as parent:
        context = current_span_context()
    message = bench.publish(make_outcome(trace=context))
    assert message is not None
    message.trail.published(1)

    span = bench.spans[-1]
    assert span.parent is not None
    assert span.parent.span_id == parent.get_span_context().span_id
    assert span.context is not None
    assert span.context.trace_id == parent.get_span_context().trace_id
    assert (
        headers(message)["traceparent"]
        == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"
    )
    assert span.context.trace_flags.sampled


def test_where_no_trace_is_current_a_span_begins_one(bench: Bench) -> None:
    with bench.tracer_provider.get_tracer("other").start_as_current_span("of the dispatcher's thread"):
        message = bench.publish(make_outcome(trace=None))
    assert message is not None
    message.trail.published(1)

    [_, span] = bench.spans
    assert span.parent is None
    assert span.context is not None
    assert headers(message)["traceparent"].split("-")[1:3] == [f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"]


def test_a_trace_that_is_not_sampled_is_handed_on_as_such() -> None:
    bench = Bench(ALWAYS_OFF)
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(0))

    message = bench.publish(make_outcome(trace=context))
    assert message is not None
    message.trail.published(1)

    assert bench.spans == []
    assert headers(message)["traceparent"].startswith(f"00-{0xABC:032x}-")
    assert headers(message)["traceparent"].endswith("-00")


def test_an_event_that_fails_on_its_way_has_a_span_that_says_where(bench: Bench) -> None:
    bench.publish(make_outcome({"total": 1}), make_bound(schema={"required": ["amount"]}))

    [span] = bench.spans
    assert span.status.status_code is trace.StatusCode.ERROR
    assert "amount" in (span.status.description or "")
    assert span.attributes is not None
    assert span.attributes["failed_stage"] == "schema"
    assert span.attributes["error.type"] == "SchemaViolation"


def test_an_event_that_the_bus_does_not_take_has_a_failed_span() -> None:
    class BrokenBus(RecordingBus):
        def publish(self, event: DomainEvent, mode: str) -> None:
            raise RuntimeError("bus is down")

    bench = Bench(bus=BrokenBus())

    bench.publish(bound=make_bound(delivery_mode="fast"))

    [span] = bench.spans
    assert span.status.description == "bus is down"


def test_an_event_that_a_publisher_decides_against_has_no_span(bench: Bench) -> None:
    publisher = type("Never", (BasePublisher,), {"should_publish": lambda self, *_: False})()

    bench.publish(bound=make_bound(publisher=publisher, delivery_mode="fast"))

    assert bench.spans == []


class RaisingSampler(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        raise RuntimeError("no sample today")

    def get_description(self) -> str:
        return "raising"


def test_a_sampler_that_raises_costs_no_event(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(RaisingSampler())

    message = bench.publish()

    assert len(bench.durable.published) == 1
    assert message is not None
    message.trail.published(1)
    [record] = caplog.records
    assert record.getMessage() == "1 events without telemetry: OpenTelemetry failed: RuntimeError: no sample today"


def test_a_span_that_can_not_be_ended_costs_no_event(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SimpleSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("no end today")

    bench.tracer_provider.add_span_processor(Broken(bench.exporter))

    for end in (lambda trail: trail.published(1), lambda trail: trail.failed("postgres", ValueError())):
        message = bench.publish()
        assert message is not None
        end(message.trail)

    assert "OpenTelemetry failed: RuntimeError: no end today" in caplog.text


def test_a_duration_that_can_not_be_recorded_costs_no_span(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no record today")

    monkeypatch.setattr(bench.otel._duration, "record", broken)
    message = bench.publish()
    assert message is not None

    message.trail.published(1)

    assert [span.name for span in bench.spans] == ["publish payment.processed"]


@pytest.mark.parametrize("get_current_span", [None, lambda: None], ids=["imported by half", "no span"])
def test_a_current_span_that_can_not_be_told_is_none(
    monkeypatch: pytest.MonkeyPatch, get_current_span: Callable[[], object] | None
) -> None:
    half = types.ModuleType("opentelemetry.trace")
    if get_current_span is not None:
        half.get_current_span = get_current_span
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", half)

    assert current_span_context() is None


# Metrics


def test_every_counter_is_a_metric_with_its_series_as_attributes(bench: Bench) -> None:
    bench.publish()
    for name, reason in (("published", "broadcast"), ("dispatched", ""), ("failed", "schema"), ("dropped", "channel full")):
        bench.counters.add(name, "payment.processed", "payments", reason, amount=3)
    bench.counters.add("published", "order.shipped", "orders", "durable")

    payment = {"event_name": "payment.processed", "namespace": "payments"}
    found = bench.values("tasker.domain_events.published.total")
    assert sorted(found, key=lambda point: point[1]) == [
        ({"event_name": "order.shipped", "namespace": "orders", "delivery_mode": "durable"}, 1),
        ({**payment, "delivery_mode": "broadcast"}, 3),
    ]
    assert bench.values("tasker.domain_events.dispatched.total") == [(payment, 3)]
    assert bench.values("tasker.domain_events.failed.total") == [({**payment, "reason": "schema"}, 3)]
    assert bench.values("tasker.domain_events.dropped.total") == [({**payment, "reason": "channel full"}, 3)]


def test_counters_that_two_threads_bring_at_once_are_told_once(bench: Bench) -> None:
    bench.publish()
    bench.counters.add("published", "payment.processed", "payments", "durable")

    bench.otel.watch(bench.counters, {})

    assert [count for _, count in bench.values("tasker.domain_events.published.total")] == [1]


def test_counts_are_told_where_no_event_has_got_as_far_as_a_span(bench: Bench) -> None:
    publisher = type("Never", (BasePublisher,), {"should_publish": lambda self, *_: False})()

    bench.publish(bound=make_bound(publisher=publisher))

    [(attributes, value)] = bench.values("tasker.domain_events.skipped.total")
    assert (attributes["reason"], value) == ("should_publish", 1)
    assert bench.values("tasker.domain_events.channel_depth") == [({"channel": "command"}, 0)]


def test_the_duration_runs_from_the_outcome_to_the_commit_in_milliseconds(bench: Bench) -> None:
    message = bench.publish(make_outcome(fired_at=time.time() - 2))
    assert message is not None
    assert "tasker.domain_event.publish.duration" not in bench.metrics()

    message.trail.published(1)

    [(attributes, point)] = bench.metrics()["tasker.domain_event.publish.duration"]
    assert attributes == {"event_name": "payment.processed", "namespace": "payments", "delivery_mode": "durable"}
    assert point.count == 1
    assert 2000 <= point.sum < 60_000


def test_a_clock_that_is_set_back_makes_no_negative_duration(bench: Bench) -> None:
    message = bench.publish(make_outcome(fired_at=time.time() + 100))
    assert message is not None

    message.trail.published(1)

    [(_, point)] = bench.metrics()["tasker.domain_event.publish.duration"]
    assert point.sum == 0


def test_what_fails_has_no_duration(bench: Bench) -> None:
    message = bench.publish()
    assert message is not None

    message.trail.failed("postgres", ValueError("refused"))

    assert "tasker.domain_event.publish.duration" not in bench.metrics()


def test_the_depth_of_every_buffer_is_read_when_metrics_are_collected(bench: Bench) -> None:
    bench.publish()
    bench.depths["command"] = 7
    Telemetry(Counters(), {"command": lambda: 1, "durable": lambda: 5}, bench.otel).attach()

    assert bench.values("tasker.domain_events.channel_depth") == [({"channel": "command"}, 8), ({"channel": "durable"}, 5)]


def test_the_counts_of_several_runtimes_are_one_series(bench: Bench) -> None:
    bench.publish()
    other = Counters()
    Telemetry(other, {}, bench.otel).attach()
    bench.counters.add("failed", "a.b", "shop", "schema", amount=2)
    other.add("failed", "a.b", "shop", "schema", amount=3)

    assert [count for _, count in bench.values("tasker.domain_events.failed.total")] == [5]


def test_a_runtime_that_has_ended_has_no_buffers_but_its_counts_stay(bench: Bench) -> None:
    bench.publish()
    bench.counters.add("failed", "a.b", "shop", "schema")

    bench.telemetry.close()

    assert "tasker.domain_events.channel_depth" not in bench.metrics()
    assert bench.values("tasker.domain_events.failed.total") == [
        ({"event_name": "a.b", "namespace": "shop", "reason": "schema"}, 1)
    ]


def test_a_forked_child_reports_nothing_of_its_parent(bench: Bench) -> None:
    bench.publish()
    bench.counters.add("failed", "a.b", "shop", "schema")

    bench.otel.after_fork_in_child()

    assert bench.values("tasker.domain_events.failed.total") == []
    assert bench.values("tasker.domain_events.channel_depth") == []
