"""What the log lines about events carry: where it belongs, and for a failure what went wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from celery import Celery
from sending import message_of
from worker_process import wait_until

from celery_tasker_events import DomainEvents, publishes_events
from celery_tasker_events import envelope as envelopes
from celery_tasker_events.bus.bus import InProcessBus
from celery_tasker_events.bus.registry import SubscriberRegistry
from celery_tasker_events.dispatcher import Dispatcher
from celery_tasker_events.durable.writer import DurableWriter
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.pipeline import Pipeline, Publication
from celery_tasker_events.publisher import BasePublisher
from celery_tasker_events.router import Router
from celery_tasker_events.telemetry.counters import Counters

from ..making import RecordingBus, RecordingDurable, make_bound, make_event, make_outcome

WHERE = {
    "event_name": "payment.processed",
    "queue_name": "payments_domain_events",
    "task_uuid": "root-1",
    "correlation_id": "root-1",
    "namespace": "payments",
    "message_id": None,
}


@pytest.fixture
def line(caplog: pytest.LogCaptureFixture) -> Callable[[str], dict[str, Any]]:
    """The fields of the one record whose message has that text."""

    def find(text: str) -> dict[str, Any]:
        [record] = [record for record in caplog.records if text in record.getMessage()]
        return vars(record)

    return find


def has_all_fields(found: dict[str, Any], error: str, error_type: str) -> None:
    assert {key: found.get(key) for key in WHERE} == WHERE
    assert "event_id" in found
    assert (found["error"], found["error_type"]) == (error, error_type)


def raising(self: Any, *_: Any) -> Any:
    raise ValueError("no luck")


def publish(bus: RecordingBus | None = None, publisher: BasePublisher | None = None, **declared: Any) -> None:
    durable, counters = RecordingDurable(), Counters()
    router = Router(bus or RecordingBus(), durable, envelopes.by_name("native"), counters)
    bound = make_bound(publisher=publisher, **declared)
    Pipeline(router, durable, counters).publish(Publication(make_outcome({}), (bound,)))


@pytest.mark.parametrize(
    ("hook", "text"),
    [("transform_payload", "not published"), ("before_publish", "not published"), ("after_publish", "Hook after_publish")],
)
def test_a_failing_hook(line: Callable[[str], dict[str, Any]], hook: str, text: str) -> None:
    publish(publisher=type("Hooked", (BasePublisher,), {hook: raising})())

    has_all_fields(line(text), "no luck", "ValueError")


def test_a_failing_hook_about_an_error(line: Callable[[str], dict[str, Any]]) -> None:
    publish(publisher=type("Hooked", (BasePublisher,), {"should_publish": raising, "on_publish_error": raising})())

    has_all_fields(line("Hook on_publish_error"), "no luck", "ValueError")


def test_a_payload_that_violates_its_schema(line: Callable[[str], dict[str, Any]]) -> None:
    publish(schema={"required": ["amount"]})

    has_all_fields(line("not published"), "payload: 'amount' is a required property", "SchemaViolation")


def test_a_bus_that_takes_no_event(line: Callable[[str], dict[str, Any]]) -> None:
    publish(type("BrokenBus", (RecordingBus,), {"publish": raising})(), delivery_mode="fast")

    has_all_fields(line("not put on the bus"), "no luck", "ValueError")


@pytest.fixture
def run_on_bus() -> Any:
    """Hands an event to subscribers and waits for them."""
    buses: list[InProcessBus] = []
    released = threading.Event()

    def run(subscriber: Callable[[DomainEvent], object], *, timeout: float = 10.0) -> None:
        registry = SubscriberRegistry()
        registry.add("*", lambda event: subscriber(event))
        bus = InProcessBus(
            registry, Counters(), buffer_size=1, timeout=timeout, deduplication_size=0, log_errors=True, log_dropped=True
        )
        buses.append(bus)
        bus.publish(make_event())
        assert bus.drain(10)

    run.released = released
    yield run
    released.set()
    for bus in buses:
        bus.close(5)


def test_a_failing_subscriber(line: Callable[[str], dict[str, Any]], run_on_bus: Any) -> None:
    run_on_bus(lambda event: raising(None))

    has_all_fields(line("failed: ValueError"), "no luck", "ValueError")


def test_a_subscriber_that_does_not_return(
    line: Callable[[str], dict[str, Any]], run_on_bus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run_on_bus(lambda event: run_on_bus.released.wait(10), timeout=0.01)

    # The watch logs it on a thread of its own.
    wait_until(lambda: "has not returned" in caplog.text, "the timeout is told")
    has_all_fields(line("has not returned"), "not returned within 0.01 s", "SubscriberTimeout")


def test_outcomes_that_the_channel_has_no_room_for(line: Callable[[str], dict[str, Any]]) -> None:
    dispatcher = Dispatcher(lambda publication: None, 0, Counters(), log_dropped=True)

    dispatcher.put(Publication(make_outcome(), (make_bound(),)))

    found = line("1 outcomes dropped")
    has_all_fields(found, "channel full", "Dropped")
    assert found["count"] == 1


def test_a_dispatcher_that_fails(line: Callable[[str], dict[str, Any]]) -> None:
    dispatcher = Dispatcher(raising, 10, Counters(), log_dropped=True)
    dispatcher.put(Publication(make_outcome(), (make_bound(),)))
    assert dispatcher.close(5)

    found = line("The dispatcher failed")
    assert (found["task_uuid"], found["event_name"]) == ("root-1", "payment.processed")
    assert (found["error"], found["error_type"]) == ("no luck", "ValueError")


def unreachable() -> Any:
    raise psycopg.OperationalError("no route")


def test_an_event_that_postgres_never_got(line: Callable[[str], dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    writer = DurableWriter(unreachable, 10, Counters(), log_dropped=True)
    writer.send(message_of(make_event(), envelopes.by_name("native")))
    wait_until(lambda: "wait in memory" in caplog.text, "the outage is told")

    assert not writer.close(0)

    wait_until(lambda: "Domain event lost" in caplog.text, "the loss is told")
    has_all_fields(line("Domain event lost"), "no route", "OperationalError")
    outage = line("wait in memory")
    assert (outage["error"], outage["error_type"]) == ("no route", "OperationalError")


def test_a_durable_event_that_comes_too_late(line: Callable[[str], dict[str, Any]]) -> None:
    writer = DurableWriter(unreachable, 10, Counters(), log_dropped=True)
    assert writer.close(0)

    writer.send(message_of(make_event(), envelopes.by_name("native")))

    has_all_fields(line("durable events dropped"), "closed", "Dropped")


def test_what_can_not_be_published_by_hand(shop: tuple[Celery, DomainEvents], line: Callable[[str], dict[str, Any]]) -> None:
    _, events = shop

    assert events.publish("Not A Name", {}, namespace="payments", correlation_id="corr-1") is None

    found = line("was not published by hand")
    assert (found["event_name"], found["namespace"], found["correlation_id"]) == ("Not A Name", "payments", "corr-1")
    assert found["error_type"] == "DeclarationError"


def test_a_plugin_that_fails_on_the_tasks_thread(
    shop: tuple[Celery, DomainEvents], line: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, events = shop

    @app.task
    @publishes_events("payment.processed", delivery_mode="fast")
    def pay() -> int:
        return 1

    monkeypatch.setattr(events, "put", raising)

    assert pay.apply().get() == 1
    found = line("could not be published; the task is not affected")
    assert (found["error"], found["error_type"], found["levelno"]) == ("no luck", "ValueError", logging.WARNING)
