"""Inside the user's transaction: all is checked before anything is sent, what is wrong is raised, and all of it is told."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from celery_tasker_events import BasePublisher, DomainEvent, EventDeclaration, NotSerialisable, SchemaViolation, values
from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.building import Publication
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.transaction import AsyncAdapter, SyncAdapter
from celery_tasker_events.envelope import by_name
from celery_tasker_events.errors import EventTooLarge
from celery_tasker_events.telemetry.counters import Counters, Series
from celery_tasker_events.telemetry.otel import Otel
from celery_tasker_events.telemetry.telemetry import Telemetry
from celery_tasker_events.transactional import TransactionalPublisher

from .making import make_bound, make_outcome


class Broken(Exception):
    """A connection that breaks."""


class Recording(SyncAdapter):
    classes = ()

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__(None)
        self.error = error
        self.messages: list[DurableMessage] = []

    def send(self, message: DurableMessage) -> int:
        self.messages.append(message)
        if self.error is not None:
            raise self.error
        return 42


class AsyncRecording(AsyncAdapter):
    classes = ()

    def __init__(self) -> None:
        super().__init__(None)
        self.started = asyncio.Event()

    async def send(self, message: DurableMessage) -> int:
        self.started.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


class Bench:
    """A publisher that tells a tracer of its own."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.counters = Counters()
        telemetry = Telemetry(self.counters, otel=Otel(provider))
        self.publisher = TransactionalPublisher(by_name("native"), self.counters, telemetry)

    def publish(self, adapter: SyncAdapter, bound: BoundEvent | None = None, payload: Any = None, **fields: Any) -> str | None:
        return self.publisher.publish(Publication(make_outcome(payload), (bound or make_bound(),), **fields), adapter)

    def counted(self) -> dict[tuple[str, str], int]:
        return {(series.name, series.reason): count for series, count in self.counters.snapshot().items()}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def record(caplog: pytest.LogCaptureFixture) -> Any:
    [found] = [item for item in caplog.records if item.name == "celery_tasker_events"]
    return found


def test_the_message_is_that_of_the_durable_path(bench: Bench) -> None:
    adapter = Recording()

    event_id = bench.publish(adapter, payload={"amount": 1}, event_id="0199c3e0-d123-7000-8000-000000000001")

    [message] = adapter.messages
    body, headers = values.decode(message.body), values.decode(message.headers)
    [span] = bench.exporter.get_finished_spans()
    assert (message.queue, body["payload"], body["event_id"]) == ("payments_domain_events", {"amount": 1}, event_id)
    assert event_id == "0199c3e0-d123-7000-8000-000000000001"
    assert span.context is not None
    assert headers == {
        "idempotency_key": body["metadata"]["idempotency_key"],
        "x-pgmq-group": "root-1",
        "traceparent": f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}",
    }


def test_counters_log_and_span_tell_that_it_was_written_in_a_transaction(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "celery_tasker_events"):
        event_id = bench.publish(Recording())

    told = record(caplog)
    assert told.getMessage() == "Domain event written in its caller's transaction: payment.processed"
    assert (told.event_id, told.message_id, told.delivery_mode, told.queue_name) == (
        event_id,
        42,
        "transaction",
        "payments_domain_events",
    )
    assert told.duration_ms >= 0
    assert bench.counters.snapshot() == {Series("published", "payment.processed", "payments", "transaction"): 1}
    [span] = bench.exporter.get_finished_spans()
    assert span.attributes is not None
    assert (span.attributes["delivery_mode"], span.attributes["messaging.system"]) == ("transaction", "pgmq")
    assert span.attributes["messaging.message.id"] == "42"


class NotJson:
    """Has no JSON form."""


@pytest.mark.parametrize(
    ("payload", "fields", "expected", "stage"),
    [
        ({"sum": 1}, {"schema": {"required": ["amount"]}}, SchemaViolation, "schema"),
        (NotJson(), {}, NotSerialisable, "snapshot"),
        ("lone \ud800", {}, NotSerialisable, "snapshot"),
        ({"a\0b": 1}, {}, NotSerialisable, "serialise"),
        ("\\\0", {}, NotSerialisable, "serialise"),
    ],
    ids=["schema", "no JSON form", "surrogate", "NUL in a key", "NUL behind a backslash"],
)
def test_what_can_not_be_written_is_raised_before_anything_is_sent(
    bench: Bench, payload: Any, fields: dict[str, Any], expected: type[Exception], stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = Recording()

    with pytest.raises(expected):
        bench.publish(adapter, make_bound(**fields), payload)

    assert adapter.messages == []
    assert bench.counted() == {("failed", stage): 1}
    told = record(caplog)
    assert told.getMessage().startswith(f"Domain event payment.processed not published: {stage}: {expected.__name__}: ")
    assert "dead letter" not in told.getMessage()
    assert (told.delivery_mode, told.message_id, told.error_type) == ("transaction", None, expected.__name__)
    [span] = bench.exporter.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.ERROR


def test_a_nul_in_an_idempotency_key_is_found_too(bench: Bench) -> None:
    with pytest.raises(NotSerialisable, match=r"U\+0000"):
        bench.publish(Recording(), idempotency_key="a\0b")


def test_a_text_that_only_looks_like_an_escaped_nul_is_written(bench: Bench) -> None:
    adapter = Recording()

    assert bench.publish(adapter, payload="\\u0000 \\\\u0000")
    assert len(adapter.messages) == 1


class Hooks(BasePublisher):
    """Does what it is told in one hook, and remembers the errors that it hears of."""

    def __init__(self, **hooks: Any) -> None:
        self.errors: list[BaseException] = []
        for name, hook in hooks.items():
            setattr(self, name, hook)

    def on_publish_error(self, event: DomainEvent | None, declaration: EventDeclaration, error: BaseException) -> None:
        self.errors.append(error)


def raising(error: BaseException) -> Any:
    def hook(*_: Any) -> Any:
        raise error

    return hook


@pytest.mark.parametrize("hook", ["should_publish", "before_publish"])
def test_a_veto_writes_nothing_and_returns_none(bench: Bench, hook: str) -> None:
    adapter = Recording()

    assert bench.publish(adapter, make_bound(publisher=Hooks(**{hook: lambda *_: False}))) is None

    assert adapter.messages == []
    assert bench.counted() == {("skipped", hook): 1}


@pytest.mark.parametrize("hook", ["should_publish", "additional_metadata", "before_publish"])
def test_what_a_hook_raises_is_raised(bench: Bench, hook: str) -> None:
    adapter, error = Recording(), RuntimeError("this publisher is broken")
    publisher = Hooks(**{hook: raising(error)})

    with pytest.raises(RuntimeError) as caught:
        bench.publish(adapter, make_bound(publisher=publisher))

    assert caught.value is error
    assert adapter.messages == []
    assert publisher.errors == [error]
    assert bench.counted() == {("failed", hook): 1}


def test_an_error_after_the_event_is_written_is_logged_and_goes_no_further(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    assert bench.publish(Recording(), make_bound(publisher=Hooks(after_publish=raising(RuntimeError("late")))))

    assert "Hook after_publish" in caplog.text
    assert bench.counted() == {("published", "transaction"): 1}


def test_what_the_connection_raises_is_raised_as_it_is(bench: Bench) -> None:
    error, publisher = Broken(), Hooks()

    with pytest.raises(Broken) as caught:
        bench.publish(Recording(error), make_bound(publisher=publisher))

    assert caught.value is error
    assert publisher.errors == [error]
    assert bench.counted() == {("failed", "transaction"): 1}
    [span] = bench.exporter.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.ERROR


def test_a_hook_that_fails_on_an_error_does_not_hide_that_error(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Broken):
        bench.publish(Recording(Broken()), make_bound(publisher=Hooks(on_publish_error=raising(RuntimeError("second")))))

    assert "Hook on_publish_error" in caplog.text


def test_a_cancelled_coroutine_is_told_of_and_stays_cancelled(bench: Bench) -> None:
    async def cancel() -> None:
        adapter = AsyncRecording()
        publishing = asyncio.create_task(bench.publisher.publish_async(Publication(make_outcome(), (make_bound(),)), adapter))
        await adapter.started.wait()
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing

    asyncio.run(cancel())

    assert bench.counted() == {("failed", "transaction"): 1}


def test_one_that_is_too_large_is_raised_before_anything_is_sent() -> None:
    counters, adapter = Counters(), Recording()
    publisher = TransactionalPublisher(by_name("native"), counters, Telemetry(counters), 1000)

    with pytest.raises(EventTooLarge, match="tasker_events_max_event_bytes is 1000"):
        publisher.publish(Publication(make_outcome("x" * 1000), (make_bound(),)), adapter)

    assert adapter.messages == []
