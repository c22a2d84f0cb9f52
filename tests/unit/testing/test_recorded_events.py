"""Recorded events: everything goes its real way, and a test sees what has come to the end of it."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import threading
from typing import Any

import pytest
from celery import Celery
from worker_process import wait_until

from celery_tasker_events import BasePublisher, DomainEvent, DomainEvents, publishes_events
from celery_tasker_events.durable.spool.place import spool_path
from celery_tasker_events.process import current_diversion
from celery_tasker_events.testing.recorded_events import RecordedEvents, recorded

from ..conftest import NewShop
from .paying import Shop, payment


@pytest.mark.parametrize("mode", ["durable", "fast", "broadcast"])
def test_an_event_of_every_mode_is_recorded_once(shop: Shop, domain_events: RecordedEvents, mode: str) -> None:
    payment(shop[0], delivery_mode=mode).apply([{"amount": 99.99}], task_id="task-1")

    event = domain_events.assert_published("payment.processed", amount=99.99)

    assert event.metadata.step_uuid == "task-1"
    assert len(domain_events) == 1
    assert [message["payload"] for message in domain_events.messages()] == ([] if mode == "fast" else [{"amount": 99.99}])


def test_events_are_kept_in_order_and_found_by_pattern(shop: Shop, domain_events: RecordedEvents) -> None:
    app, events = shop
    pay = payment(app)
    for payload in ({"amount": 1}, None, {"amount": 2}):
        pay.apply([payload])
    events.publish("refund.card.made", {"amount": 3})

    assert [event.event_name for event in domain_events.of("payment.*")] == [
        "payment.processed",
        "payment.failed",
        "payment.processed",
    ]
    assert [event.event_name for event in domain_events][-1] == "refund.card.made"
    domain_events.not_published("payment.processed", amount=3)
    domain_events.not_published("refund.*")
    domain_events.clear()
    assert len(domain_events) == 0


def test_nothing_connects_is_spooled_or_reaches_a_subscriber(new_shop: NewShop, tmp_path: Any) -> None:
    dsn = "postgresql://nobody@127.0.0.1:1/nowhere"
    app, events = new_shop(tasker_events_dsn=dsn, tasker_events_spool_dir=str(tmp_path))
    heard: list[DomainEvent] = []
    events.subscribe("*")(heard.append)

    with recorded() as domain_events:
        payment(app, delivery_mode="broadcast").apply([{"amount": 1}])
        events.check_worker()
        events.adopt()
        domain_events.assert_published("payment.processed")

    assert heard == []
    assert not spool_path(dsn, str(tmp_path)).exists()


def test_subscribers_and_streams_hear_events_when_they_are_let(shop: Shop, domain_events: RecordedEvents) -> None:
    app, events = shop
    heard: list[DomainEvent] = []
    events.subscribe("*")(heard.append)
    stream = events.stream("payment.*")
    domain_events.run_subscribers()

    payment(app, delivery_mode="broadcast").apply([{"amount": 1}])

    event = domain_events.assert_published("payment.processed")
    assert heard == [event]
    assert next(iter(stream)) == event


def test_events_go_where_they_went_before_when_the_recording_ends(new_shop: NewShop) -> None:
    app, events = new_shop()
    heard: list[DomainEvent] = []
    events.subscribe("*")(heard.append)
    pay = payment(app, delivery_mode="fast")
    conf = dict(app.conf)

    pay.apply([{"amount": 1}])
    with recorded() as domain_events:
        pay.apply([{"amount": 2}])
        assert len(domain_events) == 1
    pay.apply([{"amount": 3}])

    assert events.drain(30)
    assert [event.payload["amount"] for event in heard] == [1, 3]
    assert dict(app.conf) == conf
    assert heard[-1].metadata.fired_at.year > 2025
    assert not heard[-1].event_id.endswith("-8000-000000000002")


def test_recordings_may_stand_inside_each_other(shop: Shop, domain_events: RecordedEvents) -> None:
    pay = payment(shop[0])
    pay.apply([{"amount": 1}])
    with recorded() as inner:
        pay.apply([{"amount": 2}])
        assert [event.payload for event in inner] == [{"amount": 2}]
    pay.apply([{"amount": 3}])

    assert [event.payload for event in domain_events] == [{"amount": 1}, {"amount": 3}]


def test_all_apps_of_the_process_are_recorded_also_those_made_meanwhile(new_shop: NewShop, domain_events: RecordedEvents) -> None:
    for name in ("one", "two"):
        payment(new_shop(name)[0]).apply([{"shop": name}])

    domain_events.assert_published("payment.processed", shop="one")
    domain_events.assert_published("payment.processed", shop="two")


def test_more_events_than_the_channel_has_room_for_are_all_there(new_shop: NewShop, domain_events: RecordedEvents) -> None:
    _, events = new_shop(tasker_events_command_buffer_size=1)
    for number in range(100):
        events.publish("order.counted", number)

    assert [event.payload for event in domain_events] == list(range(100))


def test_what_other_threads_publish_while_a_recording_begins_is_recorded_and_nothing_after_it(new_shop: NewShop) -> None:
    """It begins by waiting for what was accepted before: here for a slow hook of another app."""
    gate = threading.Event()

    class Slow(BasePublisher):
        def should_publish(self, *_: Any) -> bool:
            return gate.wait(30)

    app, events = new_shop("busy")
    events.register_publisher(Slow)
    payment(app, delivery_mode="fast", publisher="Slow").apply([{}])
    others = [new_shop(f"other{number}")[1] for number in range(8)]

    def publish() -> None:
        wait_until(lambda: current_diversion() is not None, "the recording begins")
        for other in others:
            other.publish("order.seen", None)
        gate.set()

    thread = threading.Thread(target=publish)
    thread.start()
    with recorded() as domain_events:
        thread.join()
        assert [event.event_name for event in domain_events] == ["order.seen"] * len(others)

    heard: list[DomainEvent] = []
    for other in others:
        other.subscribe("*")(heard.append)
        other.publish("order.seen", None, delivery_mode="fast")
        assert other.drain(30)
    assert len(heard) == len(others)


# The clock and the ids


def test_whole_messages_are_the_same_in_every_run(shop: Shop, domain_events: RecordedEvents) -> None:
    domain_events.clock.set("2025-12-01T10:00:00.500Z")
    pay = payment(shop[0])
    pay.apply([{"amount": 1}], task_id="task-1")
    domain_events.clock.advance(1.5)
    domain_events.clock.advance(datetime.timedelta(minutes=1))
    pay.apply([{"amount": 2}], task_id="task-2")

    first, second = domain_events.messages()
    assert first == {
        "event_id": "019ad95b-c730-7000-8000-000000000001",
        "event_name": "payment.processed",
        "event_version": "1.0",
        "payload": {"amount": 1},
        "execution_result": {
            "success": True,
            "status": "completed",
            "error": None,
            "metadata": {"execution_time_ms": 0.0, "attempt": 1, "redelivered": False},
        },
        "metadata": {
            "task_uuid": "task-1",
            "step_uuid": "task-1",
            "step_name": "pay",
            "namespace": "payments",
            "correlation_id": "task-1",
            "fired_at": "2025-12-01T10:00:00.500000Z",
            "fired_by": "worker@test",
            "idempotency_key": first["metadata"]["idempotency_key"],
        },
    }
    assert second["metadata"]["fired_at"] == "2025-12-01T10:01:02.000000Z"
    assert second["event_id"].endswith("-7000-8000-000000000002")


def test_the_id_that_publish_returns_is_the_event_s(shop: Shop, domain_events: RecordedEvents) -> None:
    event_id = shop[1].publish("order.seen", None)

    assert domain_events.assert_published("order.seen").event_id == event_id


def test_a_moment_without_a_time_zone_is_refused(domain_events: RecordedEvents) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        domain_events.clock.set("2025-12-01T10:00:00")


# What an assertion says


def test_a_missing_event_is_told_with_the_nearest_one_field_by_field(shop: Shop, domain_events: RecordedEvents) -> None:
    pay = payment(shop[0])
    pay.apply([{"amount": 1, "card": {"last4": "1111", "brand": "x"}}])
    pay.apply([{"amount": 99.99, "card": {"last4": "1234", "brand": "x"}}])

    with pytest.raises(AssertionError) as raised:
        domain_events.assert_published("payment.processed", amount=99.99, card={"last4": "4242"}, currency="EUR")

    assert str(raised.value).splitlines() == [
        "payment.processed with amount=99.99, card={'last4': '4242'}, currency='EUR' was not published.",
        "The nearest of 2:",
        "  1. payment.processed (durable, step pay) {'amount': 99.99, 'card': {'last4': '1234', 'brand': 'x'}}",
        "    field               expected  got",
        "    payload.card.last4  '4242'    '1234'",
        "    payload.currency    'EUR'     (no such field)",
        "Published:",
        "  1. payment.processed (durable, step pay) {'amount': 1, 'card': {'last4': '1111', 'brand': 'x'}}",
        "  2. payment.processed (durable, step pay) {'amount': 99.99, 'card': {'last4': '1234', 'brand': 'x'}}",
    ]


def test_a_misspelt_name_is_told(shop: Shop, domain_events: RecordedEvents) -> None:
    payment(shop[0]).apply([{"amount": 1}])

    with pytest.raises(AssertionError, match=r"payment\.procesed was not published\. Did you mean 'payment\.processed'\?"):
        domain_events.assert_published("payment.procesed")
    with pytest.raises(ValueError, match="bad pattern"):
        domain_events.not_published("Payment")


def test_an_unwanted_event_is_told(shop: Shop, domain_events: RecordedEvents) -> None:
    payment(shop[0]).apply([{"amount": 1}])

    with pytest.raises(
        AssertionError, match=r"payment\.\* with amount=1 was published, and should not have been:\n  1\. payment"
    ):
        domain_events.not_published("payment.*", amount=1)


def test_payloads_of_any_kind_and_metadata_are_compared(shop: Shop, domain_events: RecordedEvents) -> None:
    _, events = shop
    events.publish("order.counted", 7, correlation_id="order-7")
    events.publish("order.noted", {"payload": 1, "timeout": {"inner": [1, 2]}})

    domain_events.assert_published("order.counted", payload=7, metadata={"correlation_id": "order-7"})
    domain_events.assert_published("order.noted", payload={"payload": 1, "timeout": {"inner": [1, 2]}})
    for wrong in ({"payload": 8}, {"payload": {"a": 1}}, {"metadata": {"correlation_id": "order-8"}}):
        domain_events.not_published("order.counted", **wrong)


def test_without_any_domain_events_it_is_said_what_to_do(domain_events: RecordedEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    # The process of the tests has made plugins already, and some may not be collected yet.
    monkeypatch.setattr("celery_tasker_events.plugin._plugins", [])

    with pytest.raises(AssertionError, match=r"No app in this process has domain events\. Import the module"):
        domain_events.assert_published("payment.processed")


def test_where_no_task_ran_here_it_is_said(shop: Shop, domain_events: RecordedEvents) -> None:
    with pytest.raises(AssertionError, match="no task ran in this process: is it eager"):
        domain_events.assert_published("payment.processed")


# The user's own transaction


class Connection:
    """Looks like one."""

    def commit(self) -> None: ...


class AsyncConnection:
    async def commit(self) -> None: ...


def test_an_event_in_the_caller_s_transaction_is_recorded(shop: Shop, domain_events: RecordedEvents) -> None:
    event_id = shop[1].publish("payment.flagged", {"score": 0.97}, connection=Connection())

    assert domain_events.assert_published("payment.flagged", score=0.97).event_id == event_id


def test_an_event_in_an_asynchronous_transaction_is_recorded(shop: Shop, domain_events: RecordedEvents) -> None:
    asyncio.run(_publish(shop[1]))

    domain_events.assert_published("payment.flagged", score=0.97)


async def _publish(events: DomainEvents) -> None:
    await events.publish("payment.flagged", {"score": 0.97}, connection=AsyncConnection())


# Threads


def _begin_slow_task(app: Celery) -> tuple[threading.Thread, threading.Event]:
    """A task that runs until the event is set, and the thread that it runs on."""
    begun, go_on = threading.Event(), threading.Event()

    @app.task(shared=False, name="shop.slow")
    @publishes_events("payment.processed")
    def pay() -> None:
        begun.set()
        assert go_on.wait(30)

    thread = threading.Thread(target=pay.apply)
    thread.start()
    assert begun.wait(30)
    return thread, go_on


def test_a_question_waits_for_a_task_on_another_thread(shop: Shop, domain_events: RecordedEvents) -> None:
    app, _ = shop
    thread, go_on = _begin_slow_task(app)
    threading.Timer(0.05, go_on.set).start()

    domain_events.assert_published("payment.processed")
    thread.join()


def test_a_task_that_does_not_end_is_named(shop: Shop, domain_events: RecordedEvents) -> None:
    app, _ = shop
    thread, go_on = _begin_slow_task(app)
    domain_events.timeout = 0.01
    with pytest.raises(AssertionError, match=r"A task still runs in this process after 0\.01 s: shop\.slow"):
        len(domain_events)
    go_on.set()
    thread.join()
    domain_events.timeout = 30


def test_an_event_that_comes_later_is_waited_for(shop: Shop, domain_events: RecordedEvents) -> None:
    threading.Timer(0.05, shop[1].publish, ["payment.flagged", {}]).start()

    domain_events.assert_published("payment.flagged", timeout=30)


def test_a_recorded_event_is_the_one_that_a_consumer_reads(new_shop: NewShop) -> None:
    read = []
    for envelope in ("native", "tasker", "cloudevents"):
        app, _ = new_shop(tasker_events_envelope=envelope)
        with recorded() as domain_events:
            payment(app, delivery_mode="durable").apply([{"amount": 1}], task_id="task-1")
            read.append(dataclasses.asdict(domain_events.assert_published("payment.processed")))

    assert read[0] == read[1] == read[2]
