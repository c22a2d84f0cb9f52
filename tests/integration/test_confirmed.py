"""Confirmed events: the task's thread goes on when they are committed, or after a timeout; never fails for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import psycopg
import pytest
from celery import Celery
from queues import messages, names
from worker_process import wait_until

from celery_tasker_events import BasePublisher, DomainEvents, publishes_events

NOWHERE = "postgresql://postgres@127.0.0.1:1/none"


@dataclass
class Noted:
    number: int


@pytest.fixture
def make_app():
    plugins = []

    def make(**settings):
        app = Celery("confirmed", broker="memory://", set_as_current=False)
        app.conf.update({f"tasker_events_{key}": value for key, value in settings.items()})
        plugins.append(DomainEvents(app))
        return app, plugins[-1]

    yield make
    for plugin in plugins:
        plugin.close(0.1)


@pytest.mark.parametrize(("declared", "setting"), [(True, False), (False, True)], ids=["declared", "setting"])
def test_a_confirmed_event_is_committed_when_its_task_has_ended(make_app, dsn, declared, setting):
    app, _ = make_app(dsn=dsn, confirm=setting, confirm_timeout_ms=30_000)

    @app.task(shared=False)
    @publishes_events("payment.processed", namespace="payments", confirm=declared)
    def pay(number):
        return number

    for number in range(20):
        assert pay.apply([number]).get() == number
        assert messages(dsn, "payments")[-1]["payload"] == number


def test_an_event_by_hand_can_be_confirmed(make_app, dsn):
    _, events = make_app(dsn=dsn, confirm_timeout_ms=30_000)

    events.publish("payment.flagged", {}, namespace="payments", confirm=True)

    assert names(messages(dsn, "payments")) == ["payment.flagged"]


def test_threads_that_wait_share_a_commit(make_app, dsn):
    _, events = make_app(dsn=dsn, confirm_timeout_ms=60_000)
    handed_over = []

    @events.register_publisher
    class Counting(BasePublisher):
        name = "counting"

        def after_publish(self, event):
            handed_over.append(event.payload)

    noted = events.declare("payment.noted", Noted, namespace="payments", publisher="counting", confirm=True)
    events.publish(noted, Noted(0))
    with psycopg.connect(dsn) as other:
        other.execute("lock table pgmq.q_payments_domain_events in exclusive mode")
        threads = [threading.Thread(target=events.publish, args=[noted, Noted(number)]) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(handed_over) == 9, "all of them wait")
        assert all(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join(60)

    with psycopg.connect(dsn) as connection:
        commits, count = connection.execute(
            "select count(distinct xmin::text), count(*) from pgmq.q_payments_domain_events"
        ).fetchone()
    # The first one's, that of what was in flight when the lock was taken, and one for all that came meanwhile.
    assert count == 9
    assert commits <= 3


def test_a_dead_letter_is_as_good_as_a_commit(make_app, dsn):
    app, _ = make_app(dsn=dsn, confirm_timeout_ms=30_000)

    @app.task(shared=False)
    @publishes_events("payment.processed", namespace="payments", confirm=True, schema={"type": "string"})
    @publishes_events("payment.noted", namespace="payments", confirm=True)
    def pay():
        return "a\0b" if pay.request.retries else 1

    pay.apply()

    assert names(messages(dsn, "payments")) == ["payment.noted"]
    assert names(messages(dsn, "payments", dead_letters=True)) == ["payment.processed"]


def test_a_timeout_is_a_warning_and_the_task_ends_as_ever(make_app, caplog):
    app, _ = make_app(dsn=NOWHERE, confirm_timeout_ms=50)

    @app.task(shared=False)
    @publishes_events("payment.processed", namespace="payments", confirm=True)
    def pay():
        return "paid"

    assert pay.apply().get() == "paid"
    assert "Not confirmed within 0.05 s: payment.processed" in caplog.text


def test_a_hook_does_not_wait_for_itself(make_app, dsn, caplog):
    app, events = make_app(dsn=dsn, confirm_timeout_ms=60_000)

    @events.register_publisher
    class Following(BasePublisher):
        name = "following"

        def after_publish(self, event):
            events.publish("payment.followed", {}, namespace="payments", confirm=True)

    @app.task(shared=False)
    @publishes_events("payment.processed", namespace="payments", publisher="following")
    def pay():
        return "paid"

    pay.apply()

    both = ["payment.processed", "payment.followed"]
    wait_until(lambda: names(messages(dsn, "payments")) == both, "both are committed")
    assert "Not confirmed, as a publisher's hook can't wait for what it publishes itself: payment.followed" in caplog.text


def test_a_fast_event_has_nothing_to_wait_for(make_app, caplog):
    app, _ = make_app(confirm=True, confirm_timeout_ms=60_000)

    @app.task(shared=False)
    @publishes_events("payment.counted", delivery_mode="fast")
    def pay():
        return "paid"

    assert pay.apply().get() == "paid"
    assert caplog.text == ""
