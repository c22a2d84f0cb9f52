"""DomainEvents with real Celery apps: tasks run in this process, fast events reach subscribers. No Postgres."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task, shared_task

from celery_tasker_events import BasePublisher, DeliveryMode, DomainEvent, DomainEvents, publishes_events, subscribe
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.telemetry.counters import Series

from .conftest import NewShop

LONG = 30.0

Shop = tuple[Celery, DomainEvents]


def listen(events: DomainEvents, pattern: str = "*") -> list[DomainEvent]:
    """Subscribe a list, and return it."""
    got: list[DomainEvent] = []
    events.subscribe(pattern)(got.append)
    return got


def fast(name: str, **fields: Any) -> Any:
    return publishes_events(name, delivery_mode="fast", **fields)


class CardDeclined(Exception):
    error_code = "card_declined"


# Attaching


def test_an_app_and_its_plugin_are_attached_once(shop: Shop) -> None:
    app, events = shop

    assert DomainEvents.of(app) is events
    with pytest.raises(ConfigurationError, match="once only"):
        DomainEvents(app)
    with pytest.raises(ConfigurationError, match="once only"):
        events.init_app(Celery("other"))


def test_an_app_without_a_plugin_is_told_how_to_get_one() -> None:
    with pytest.raises(ConfigurationError, match=r"add DomainEvents\(app\)"):
        DomainEvents.of(Celery("plain"))


def test_the_app_may_be_given_later() -> None:
    events = DomainEvents()
    got = listen(events)
    app = Celery("late", broker="memory://", backend="cache+memory://")
    events.init_app(app)

    app.task(name="pay")(fast("payment.processed")(_pay)).apply(args=[3])

    assert events.drain(LONG)
    assert [event.payload for event in got] == [{"amount": 3}]
    assert events.close(LONG)


def _pay(amount: int = 1) -> dict[str, int]:
    return {"amount": amount}


def test_an_app_that_nobody_uses_any_more_can_be_collected() -> None:
    app = Celery("short-lived", broker="memory://", set_as_current=False)
    DomainEvents(app)
    reference = weakref.ref(app)

    del app
    gc.collect()

    assert reference() is None


def test_an_app_may_be_collected_by_a_thread_that_holds_a_signals_lock() -> None:
    # In a process of its own: whoever waits for that lock waits for ever.
    program = """
import gc
from celery import Celery, signals
from celery_tasker_events import DomainEvents

gc.disable()
app = Celery("short-lived", broker="memory://", set_as_current=False)
DomainEvents(app)
before = len(signals.task_success.receivers)
del app
with signals.task_success.lock, signals.worker_shutdown.lock:
    gc.collect()
signals.task_success.connect(lambda **_: None, weak=False)
print(before, len(signals.task_success.receivers))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert done.stdout == "1 1\n", done.stderr


# From the task to the subscriber


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
def test_an_outcome_publishes_the_events_whose_condition_it_meets(shop: Shop, outcome: str, expected: set[str]) -> None:
    app, events = shop
    got = listen(events)

    @app.task(bind=True, max_retries=1)
    @publishes_events([{"name": f"step.{c}", "condition": c, "delivery_mode": "fast"} for c in ALL_CONDITIONS])
    def step(self: Task) -> None:
        if outcome == "failure":
            raise CardDeclined("no funds")
        if outcome == "retry" and self.request.retries == 0:
            raise self.retry(exc=CardDeclined("later"), countdown=0)

    step.apply()

    assert events.drain(LONG)
    # An eager retry runs inside of the first try, so the first try's events are those with attempt 1.
    first = [event for event in got if event.execution_result.metadata["attempt"] == 1]
    assert {event.event_name.removeprefix("step.") for event in first} == expected
    assert len(first) == len(expected)


def test_a_failure_is_told_with_code_and_reason_and_the_task_fails_as_ever(shop: Shop) -> None:
    app, events = shop
    got = listen(events)

    @app.task
    @fast("payment.failed", condition="permanent_failure")
    def pay() -> None:
        raise CardDeclined("no funds")

    result = pay.apply()

    assert result.state == "FAILURE"
    assert isinstance(result.result, CardDeclined)
    assert events.drain(LONG)
    [event] = got
    assert event.payload == {"error_code": "card_declined", "reason": "no funds"}
    error = event.execution_result.error
    assert error is not None
    assert (error.type, error.message, error.retryable) == ("CardDeclined", "no funds", False)


def test_every_try_of_a_retried_task_has_its_own_event_attempt_and_key(shop: Shop) -> None:
    app, events = shop
    got = listen(events)

    @app.task(autoretry_for=(CardDeclined,), max_retries=2, default_retry_delay=0)
    @fast("payment.retried", condition="retryable_failure")
    @fast("payment.failed", condition="permanent_failure")
    def pay() -> None:
        raise CardDeclined("no funds")

    pay.apply(task_id="task-1")

    assert events.drain(LONG)
    assert sorted((event.event_name, event.execution_result.metadata["attempt"]) for event in got) == [
        ("payment.failed", 3),
        ("payment.retried", 1),
        ("payment.retried", 2),
    ]
    assert {event.metadata.step_uuid for event in got} == {"task-1"}
    assert len({event.metadata.idempotency_key for event in got}) == 3
    retried = next(event for event in got if event.event_name == "payment.retried")
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


def test_arguments_reach_a_custom_publisher(shop: Shop) -> None:
    app, events = shop
    got = listen(events)

    class Echo(BasePublisher):
        def transform_payload(self, step_result: Any, declaration: Any, context: Any) -> Any:
            return {"args": context.args, "kwargs": context.kwargs}

    events.register_publisher(Echo)

    @app.task
    @fast("payment.processed", publisher="Echo")
    def pay(order: int, *, rush: bool) -> None: ...

    pay.apply(args=[7], kwargs={"rush": True})

    assert events.drain(LONG)
    assert [event.payload for event in got] == [{"args": [7], "kwargs": {"rush": True}}]


def test_the_callers_correlation_id_reaches_the_event(shop: Shop) -> None:
    app, events = shop
    got = listen(events)

    @app.task
    @fast("payment.processed")
    def pay() -> None: ...

    pay.apply(headers={"tasker_correlation_id": "caller-1"})

    assert events.drain(LONG)
    assert [event.metadata.correlation_id for event in got] == ["caller-1"]


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

    busy.task(name="pay")(fast("a.b")(_plain())).apply()

    assert idle.finalized is False


def test_a_shared_subscriber_hears_of_every_app(new_shop: Callable[..., Shop]) -> None:
    got: list[Any] = []
    subscribe("payment.*")(lambda event: got.append(event.payload))

    for name in ("one", "two"):
        app, events = new_shop(name)
        app.task(name=f"{name}.pay")(fast("payment.processed")(_pay)).apply(args=[len(got)])
        assert events.drain(LONG)

    assert got == [{"amount": 0}, {"amount": 1}]


def test_subscribe_returns_the_function_and_refuses_a_bad_pattern(shop: Shop) -> None:
    _, events = shop

    assert events.subscribe("*")(_pay) is _pay
    with pytest.raises(ValueError, match="bad pattern"):
        events.subscribe("payment")(_pay)


# By hand


def test_an_event_by_hand_belongs_to_the_running_task(shop: Shop) -> None:
    app, events = shop
    got = listen(events, "payment.flagged")
    ids: list[str | None] = []

    @app.task(name="shop.pay")
    @fast("payment.processed", namespace="payments")
    def pay() -> None:
        ids.append(events.publish("payment.flagged", {"score": 0.97}, delivery_mode="fast"))

    pay.apply(task_id="task-1")

    assert events.drain(LONG)
    [event] = got
    assert [event.event_id] == ids
    assert event.payload == {"score": 0.97}
    assert event.execution_result.status == "published"
    metadata = event.metadata
    assert (metadata.step_uuid, metadata.step_name, metadata.namespace) == ("task-1", "pay", "payments")


def test_the_same_event_by_hand_twice_in_one_try_has_two_keys_that_the_next_run_repeats(new_shop: NewShop) -> None:
    app, events = new_shop(tasker_events_deduplication_cache_size=0)
    got = listen(events)

    @app.task
    def pay() -> None:
        for score in (1, 2):
            events.publish("payment.flagged", score, delivery_mode="fast")

    for _ in range(2):
        pay.apply(task_id="task-1")

    assert events.drain(LONG)
    keys = [event.metadata.idempotency_key for event in got]
    assert keys[:2] == keys[2:]
    assert len(set(keys)) == 2


def test_events_by_hand_of_two_direct_calls_have_two_keys(shop: Shop) -> None:
    app, events = shop
    got = listen(events)

    @app.task
    def pay() -> None:
        events.publish("payment.flagged", 1, delivery_mode="fast")

    pay()
    pay()

    assert events.drain(LONG)
    assert len({event.metadata.idempotency_key for event in got}) == 2


def test_an_event_outside_of_any_task_belongs_to_none(new_shop: Callable[..., Shop]) -> None:
    _, events = new_shop(tasker_events_namespace="risk")
    got = listen(events)

    event_id = events.publish(
        "payment.flagged", 1, delivery_mode=DeliveryMode.FAST, correlation_id="caller-1", idempotency_key="k"
    )

    assert events.drain(LONG)
    [event] = got
    assert event.event_id == event_id
    metadata = event.metadata
    assert (metadata.task_uuid, metadata.step_uuid, metadata.step_name) == (None, None, None)
    assert (metadata.namespace, metadata.correlation_id, metadata.idempotency_key) == ("risk", "caller-1", "k")


def test_an_event_that_a_template_declares_is_published_as_declared(
    new_shop: Callable[..., Shop], write_template: Callable[[str], Path]
) -> None:
    path = write_template(
        "name: checkout\nnamespace_name: payments\ndomain_events:\n"
        "  - {name: payment.flagged, delivery_mode: fast, namespace: risk, schema: {required: [score]}}\n"
    )
    _, events = new_shop(tasker_events_templates=[str(path)])
    got = listen(events)

    assert events.publish("payment.flagged", {"score": 1})
    assert events.publish("payment.flagged", {"wrong": 1})

    assert events.drain(LONG)
    assert [(event.payload, event.metadata.namespace) for event in got] == [({"score": 1}, "risk")]
    assert events.counters()[Series("failed", "payment.flagged", "risk", "schema")] == 1


@pytest.mark.parametrize("fields", [{"event_name": "bad"}, {"namespace": "No"}, {"delivery_mode": "slow"}])
def test_a_bad_event_by_hand_is_logged_and_raises_nothing(
    shop: Shop, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    _, events = shop

    event_id = events.publish(**{"event_name": "a.b", "payload": 1, **fields})

    assert event_id is None
    assert "was not published by hand" in caplog.text


# Starting


@pytest.mark.parametrize(
    ("conf", "declaration", "message"),
    [
        ({}, {}, r"tasker_events_dsn: durable events are declared \(for queue 'default_domain_events'\) but no database is"),
        ({}, {"delivery_mode": "fast", "publisher": "Nobody"}, "unknown publisher 'Nobody'"),
        ({}, {"delivery_mode": "fast", "schema": {"type": "x"}}, "invalid JSON Schema"),
        ({"tasker_events_templates": ["no/such/*.yaml"]}, {"delivery_mode": "fast"}, "no task template matches"),
        ({"tasker_events_dispatch_timeout_ms": 0}, {"delivery_mode": "fast"}, "from 1 to 3600000"),
        (
            {"tasker_events_publishers": ["gone.Publisher"]},
            {"delivery_mode": "fast"},
            "tasker_events_publishers: .*'gone.Publisher'",
        ),
    ],
)
def test_a_worker_refuses_to_start_with_a_mistake(
    new_shop: Callable[..., Shop], conf: dict[str, Any], declaration: dict[str, Any], message: str
) -> None:
    app, events = new_shop(**conf)
    app.task(name="pay")(publishes_events("a.b", **declaration)(_plain()))

    with pytest.raises(ConfigurationError, match=message):
        events.check_worker()


def _plain() -> Any:
    def step() -> None: ...

    return step


def test_a_worker_with_fast_events_only_needs_no_database(shop: Shop) -> None:
    app, events = shop
    app.task(name="pay")(fast("a.b")(_plain()))

    events.check_worker()


def test_a_worker_whose_durable_events_are_all_published_by_hand_starts_without_a_database_and_says_so(
    new_shop: Callable[..., Shop], write_template: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = write_template("name: ordering\nnamespace_name: shop\ndomain_events:\n  - {name: order.placed}\n")
    _, events = new_shop(tasker_events_templates=[str(path)])

    events.check_worker()

    assert "tasker_events_dsn is not set" in caplog.text


def test_once_a_worker_has_started_no_publisher_can_be_added(shop: Shop) -> None:
    _, events = shop
    events.register_publisher(BasePublisher)
    events.check_worker()

    with pytest.raises(ConfigurationError, match="after the app had started"):
        events.register_publisher(type("Late", (BasePublisher,), {}))


def test_a_wrong_setting_never_fails_a_task(new_shop: Callable[..., Shop], caplog: pytest.LogCaptureFixture) -> None:
    app, _ = new_shop(tasker_events_namespace="No")
    task = app.task(name="pay")(fast("a.b")(_pay))

    assert task.apply().get() == {"amount": 1}
    assert "tasker_events_namespace" in caplog.text


# Threads, ends and forks


def test_a_process_that_publishes_nothing_starts_nothing(shop: Shop, our_threads: Callable[[], set[str]]) -> None:
    app, events = shop
    listen(events)
    plain = app.task(name="plain")(_plain())
    not_due = app.task(name="not_due")(fast("a.b", condition="failure")(_plain()))

    plain.apply()
    not_due.apply()

    assert our_threads() == set()
    assert events.drain(0) is True
    assert events.close(0) is True
    assert events.counters() == {}


def test_a_durable_event_starts_no_bus_and_a_fast_one_no_writer(shop: Shop, our_threads: Callable[[], set[str]]) -> None:
    app, events = shop
    listen(events)
    task = app.task(name="pay")(fast("a.b")(_plain()))

    task.apply()

    assert events.drain(LONG)
    assert our_threads() == {"tasker-events-dispatcher", "tasker-events-bus", "tasker-events-bus-watch"}


def test_closing_delivers_what_was_accepted_ends_all_threads_and_a_later_event_starts_new_ones(shop: Shop) -> None:
    app, events = shop
    got = listen(events)
    task = app.task(name="pay")(fast("a.b")(_plain()))
    before = set(threading.enumerate())
    for _ in range(20):
        task.apply()
    started = set(threading.enumerate()) - before

    assert events.close(LONG) is True

    assert len(got) == 20
    for thread in started:
        thread.join(LONG)
        assert not thread.is_alive()
    task.apply()
    assert events.drain(LONG)
    assert len(got) == 21


def _in_a_forked_child(work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns in a forked child, by way of JSON."""
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork beside threads: that such a fork works is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        answer: Any = None
        try:
            answer = work()
        except BaseException as error:
            answer = repr(error)
        finally:
            os.write(write_end, json.dumps(answer).encode())
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = json.loads(pipe.read())
    assert os.waitpid(pid, 0)[1] == 0
    return answer


def test_a_forked_child_has_its_own_channel_threads_and_counters(shop: Shop) -> None:
    app, events = shop
    got: list[int] = []
    events.subscribe("*")(lambda _: got.append(os.getpid()))
    task = app.task(name="pay")(fast("a.b")(_plain()))
    task.apply()
    assert events.drain(LONG)

    def in_child() -> Any:
        before = dict(events.counters())
        task.apply()
        drained = events.drain(LONG)
        return [len(before), drained, got.count(os.getpid()), sum(events.counters().values())]

    assert _in_a_forked_child(in_child) == [0, True, 1, 1]
    task.apply()
    assert events.drain(LONG)
    assert got == [os.getpid()] * 2


def test_a_fork_while_the_parent_is_busy_harms_neither(shop: Shop) -> None:
    app, events = shop
    gate, entered = threading.Event(), threading.Event()
    parent = os.getpid()
    got: list[int] = []

    def hold(_: DomainEvent) -> None:
        if os.getpid() == parent:
            entered.set()
            gate.wait(LONG)
        got.append(os.getpid())

    events.subscribe("*")(hold)
    task = app.task(name="pay")(fast("a.b")(_plain()))
    task.apply()
    task.apply()
    assert entered.wait(LONG)

    def in_child() -> Any:
        task.apply()
        return [events.close(LONG), got.count(os.getpid()), len(got)]

    assert _in_a_forked_child(in_child) == [True, 1, 1]
    gate.set()
    assert events.drain(LONG)
    assert got == [parent] * 2


def test_a_child_that_closes_what_it_inherited_does_not_close_its_parents(shop: Shop) -> None:
    app, events = shop
    got = listen(events)
    task = app.task(name="pay")(fast("a.b")(_plain()))
    task.apply()
    assert events.drain(LONG)

    assert _in_a_forked_child(lambda: events.close(LONG)) is True

    task.apply()
    assert events.drain(LONG)
    assert len(got) == 2


def test_importing_the_package_starts_and_connects_nothing() -> None:
    code = (
        "import threading, sys; import celery_tasker_events; from celery import signals;"
        "assert threading.active_count() == 1, threading.enumerate();"
        "assert not signals.task_success.receivers"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_a_hook_that_hangs_does_not_keep_the_bus_from_being_closed(shop: Shop) -> None:
    app, events = shop
    listen(events)
    gate = threading.Event()

    class Hanging(BasePublisher):
        def should_publish(self, *_: Any) -> bool:
            return not gate.wait(LONG)

    events.register_publisher(Hanging)
    app.task(name="pay")(fast("a.b")(_plain())).apply()
    assert events.drain(LONG)
    bus_threads = [thread for thread in threading.enumerate() if thread.name.startswith("tasker-events-bus")]
    app.task(name="hang")(fast("a.hang", publisher="Hanging")(_plain())).apply()

    assert events.close(0.01) is False
    gate.set()

    for thread in bus_threads:
        thread.join(0.3)
    assert not any(thread.is_alive() for thread in bus_threads)
