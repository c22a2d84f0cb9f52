"""DomainEvents and its Celery app: attached, checked before a worker starts, and gone together."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_tasker_events import BasePublisher, DomainEvents, publishes_events
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.start_up import declared_series

from .conftest import NewShop
from .listening import LONG, Shop, fast, listen, make_plain, pay_amount


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

    app.task(name="pay")(fast("payment.processed")(pay_amount)).apply(args=[3])

    assert events.drain(LONG)
    assert [event.payload for event in got] == [{"amount": 3}]
    assert events.close(LONG)


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
    app.task(name="pay")(publishes_events("a.b", **declaration)(make_plain()))

    with pytest.raises(ConfigurationError, match=message):
        events.check_worker()


def test_a_worker_with_fast_events_only_needs_no_database(shop: Shop) -> None:
    app, events = shop
    app.task(name="pay")(fast("a.b")(make_plain()))

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
    task = app.task(name="pay")(fast("a.b")(pay_amount))

    assert task.apply().get() == {"amount": 1}
    assert "tasker_events_namespace" in caplog.text


# Threads, ends and forks


def test_events_that_are_published_by_hand_are_told_before_their_first_one_too(
    new_shop: NewShop, write_template: Callable[[str], Path]
) -> None:
    path = write_template(
        "name: shop\nnamespace_name: risk\nversion: 1.0.0\nsteps: []\ndomain_events: [{name: payment.flagged}]\n"
    )
    _, events = new_shop("shop", tasker_events_templates=[str(path)])

    assert [(series.name, series.event_name, series.namespace) for series in declared_series(events.catalog)] == [
        ("published", "payment.flagged", "risk")
    ]
