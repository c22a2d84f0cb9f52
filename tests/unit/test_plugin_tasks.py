"""What tasks that run in this process publish: fast events reach subscribers, and no task is the worse for it. No Postgres."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from celery import Task, shared_task

from celery_tasker_events import BasePublisher, publishes_events, subscribe
from celery_tasker_events.telemetry.counters import Series
from celery_tasker_events.testing.recorded_events import RecordedEvents

from .listening import LONG, Shop, fast, listen, make_plain, pay_amount


class CardDeclined(Exception):
    error_code = "card_declined"


def test_a_tasks_event_reaches_the_subscribers(shop: Shop) -> None:
    app, events = shop
    got, others = listen(events, "payment.*"), listen(events, "order.*")

    @app.task(name="shop.pay")
    @fast("payment.processed")
    def pay(amount: int) -> dict[str, int]:
        return {"amount": amount}

    result = pay.apply(args=[3], task_id="task-1")

    assert result.get() == {"amount": 3}
    assert events.drain(LONG)
    [event] = got
    assert (event.event_name, event.payload) == ("payment.processed", {"amount": 3})
    assert (event.metadata.step_uuid, event.metadata.task_uuid) == ("task-1", "task-1")
    assert (event.metadata.step_name, event.metadata.namespace) == ("pay", "default")
    assert event.execution_result.success is True
    assert event.execution_result.metadata["execution_time_ms"] >= 0
    assert others == []


ALL_CONDITIONS = ("success", "failure", "retryable_failure", "permanent_failure", "always")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("success", {"success", "always"}),
        ("failure", {"failure", "permanent_failure", "always"}),
        ("retry", {"failure", "retryable_failure", "always"}),
    ],
)
def test_an_outcome_publishes_the_events_whose_condition_it_meets(
    shop: Shop, domain_events: RecordedEvents, outcome: str, expected: set[str]
) -> None:
    app, _ = shop

    @app.task(bind=True, max_retries=1)
    @publishes_events([{"name": f"step.{c}", "condition": c, "delivery_mode": "fast"} for c in ALL_CONDITIONS])
    def step(self: Task) -> None:
        if outcome == "failure":
            raise CardDeclined("no funds")
        if outcome == "retry" and self.request.retries == 0:
            raise self.retry(exc=CardDeclined("later"), countdown=0)

    step.apply()

    # An eager retry runs inside of the first try, so the first try's events are those with attempt 1.
    first = [event for event in domain_events if event.execution_result.metadata["attempt"] == 1]
    assert {event.event_name.removeprefix("step.") for event in first} == expected
    assert len(first) == len(expected)


def test_a_failure_is_told_with_code_and_reason_and_the_task_fails_as_ever(shop: Shop, domain_events: RecordedEvents) -> None:
    app, _ = shop

    @app.task
    @fast("payment.failed", condition="permanent_failure")
    def pay() -> None:
        raise CardDeclined("no funds")

    result = pay.apply()

    assert result.state == "FAILURE"
    assert isinstance(result.result, CardDeclined)
    [event] = domain_events
    assert event.payload == {"error_code": "card_declined", "reason": "no funds"}
    error = event.execution_result.error
    assert error is not None
    assert (error.type, error.message, error.retryable) == ("CardDeclined", "no funds", False)


def test_every_try_of_a_retried_task_has_its_own_event_attempt_and_key(shop: Shop, domain_events: RecordedEvents) -> None:
    app, _ = shop

    @app.task(autoretry_for=(CardDeclined,), max_retries=2, default_retry_delay=0)
    @fast("payment.retried", condition="retryable_failure")
    @fast("payment.failed", condition="permanent_failure")
    def pay() -> None:
        raise CardDeclined("no funds")

    pay.apply(task_id="task-1")

    assert sorted((event.event_name, event.execution_result.metadata["attempt"]) for event in domain_events) == [
        ("payment.failed", 3),
        ("payment.retried", 1),
        ("payment.retried", 2),
    ]
    assert {event.metadata.step_uuid for event in domain_events} == {"task-1"}
    assert len({event.metadata.idempotency_key for event in domain_events}) == 3
    retried = next(event for event in domain_events if event.event_name == "payment.retried")
    assert retried.execution_result.error is not None
    assert (retried.execution_result.status, retried.execution_result.error.retryable) == ("retrying", True)


def test_a_later_change_of_the_returned_object_does_not_change_the_event(shop: Shop) -> None:
    app, events = shop
    got, gate = listen(events, "payment.*"), threading.Event()
    events.subscribe("step.first")(lambda _: gate.wait(LONG))
    order = {"amount": 1}

    @app.task
    @fast("payment.processed")
    def pay() -> dict[str, int]:
        return order

    pay.apply()
    order["amount"] = 2

    gate.set()
    assert events.drain(LONG)
    assert [event.payload for event in got] == [{"amount": 1}]


def test_what_is_no_json_data_costs_the_event_and_never_the_task(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    app, events = shop
    got = listen(events)

    @app.task
    @fast("payment.processed")
    def pay() -> object:
        return {"socket": 1j}

    result = pay.apply()

    assert (result.state, result.get()) == ("SUCCESS", {"socket": 1j})
    assert events.drain(LONG)
    assert got == []
    assert events.counters() == {Series("failed", "payment.processed", "default", "snapshot"): 1}
    assert "payment.processed not published: snapshot: NotSerialisable" in caplog.text


class DumpExits:
    def model_dump(self, mode: str) -> Any:
        raise SystemExit(3)


def test_a_system_exit_out_of_the_returned_object_does_not_reach_the_task(shop: Shop) -> None:
    app, events = shop

    @app.task
    @fast("payment.processed")
    def pay() -> object:
        return DumpExits()

    assert pay.apply().state == "SUCCESS"
    assert events.drain(LONG)
    assert events.counters() == {Series("failed", "payment.processed", "default", "snapshot"): 1}


def test_a_subscriber_that_raises_does_not_fail_the_task(shop: Shop) -> None:
    app, events = shop
    events.subscribe("*")(lambda event: event.no_such_attribute)
    got = listen(events)

    @app.task
    @fast("payment.processed")
    def pay() -> int:
        return 1

    assert pay.apply().get() == 1
    assert events.drain(LONG)
    assert len(got) == 1
    assert events.counters()[Series("failed", "payment.processed", "default", "subscriber error")] == 1


def test_arguments_reach_a_custom_publisher(shop: Shop, domain_events: RecordedEvents) -> None:
    app, events = shop

    class Echo(BasePublisher):
        def transform_payload(self, step_result: Any, declaration: Any, context: Any) -> Any:
            return {"args": context.args, "kwargs": context.kwargs}

    events.register_publisher(Echo)

    @app.task
    @fast("payment.processed", publisher="Echo")
    def pay(order: int, *, rush: bool) -> None: ...

    pay.apply(args=[7], kwargs={"rush": True})

    assert [event.payload for event in domain_events] == [{"args": [7], "kwargs": {"rush": True}}]


def test_the_callers_correlation_id_reaches_the_event(shop: Shop, domain_events: RecordedEvents) -> None:
    app, _ = shop

    @app.task
    @fast("payment.processed")
    def pay() -> None: ...

    pay.apply(headers={"tasker_correlation_id": "caller-1"})

    assert [event.metadata.correlation_id for event in domain_events] == ["caller-1"]


def test_a_full_channel_drops_events_and_never_holds_the_task(new_shop: Callable[..., Shop]) -> None:
    app, events = new_shop(tasker_events_command_buffer_size=1)
    gate, entered = threading.Event(), threading.Event()

    class Slow(BasePublisher):
        def should_publish(self, *_: Any) -> bool:
            entered.set()
            return gate.wait(LONG)

    events.register_publisher(Slow)

    @app.task
    @fast("payment.processed", publisher="Slow")
    def pay() -> None: ...

    pay.apply()
    assert entered.wait(LONG)
    states = [pay.apply().state for _ in range(3)]
    gate.set()

    assert states == ["SUCCESS"] * 3
    assert events.drain(LONG)
    assert events.counters()[Series("dropped", "payment.processed", "default", "channel full")] == 2


# Apps


@pytest.mark.parametrize("above", [True, False])
def test_two_apps_with_one_shared_task_hear_of_their_own_runs_only(new_shop: Callable[..., Shop], *, above: bool) -> None:
    def pay(app_name: str) -> str:
        return app_name

    declare = fast("payment.processed")
    shared = declare(shared_task(pay)) if above else shared_task(declare(pay))
    shops = {name: new_shop(name) for name in ("one", "two")}
    got = {name: listen(events) for name, (_, events) in shops.items()}

    for name, (app, events) in shops.items():
        app.set_current()
        shared.apply(args=[name])
        assert events.drain(LONG)

    assert {name: [event.payload for event in heard] for name, heard in got.items()} == {"one": ["one"], "two": ["two"]}


def test_a_task_of_another_app_does_not_finalize_this_one(new_shop: Callable[..., Shop]) -> None:
    idle, _ = new_shop("idle")
    busy, _ = new_shop("busy")

    busy.task(name="pay")(fast("a.b")(make_plain())).apply()

    assert idle.finalized is False


def test_a_shared_subscriber_hears_of_every_app(new_shop: Callable[..., Shop]) -> None:
    got: list[Any] = []
    subscribe("payment.*")(lambda event: got.append(event.payload))

    for name in ("one", "two"):
        app, events = new_shop(name)
        app.task(name=f"{name}.pay")(fast("payment.processed")(pay_amount)).apply(args=[len(got)])
        assert events.drain(LONG)

    assert got == [{"amount": 0}, {"amount": 1}]


def test_subscribe_returns_the_function_and_refuses_a_bad_pattern(shop: Shop) -> None:
    _, events = shop

    assert events.subscribe("*")(pay_amount) is pay_amount
    with pytest.raises(ValueError, match="bad pattern"):
        events.subscribe("payment")(pay_amount)
