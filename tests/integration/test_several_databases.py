"""Namespaces in databases of their own: each event goes where it belongs, and one database that is away holds up no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from queues import messages, names

from celery_tasker_events import publishes_events

APPS = Path(__file__).parent / "apps"

NOWHERE = "postgresql://postgres@127.0.0.1:1/none"


def command(settings, *arguments):
    environment = {**os.environ, "SHOP_SETTINGS": json.dumps(settings)}
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "shop", "domain-events", *arguments],
        cwd=APPS,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_each_event_is_in_the_database_of_its_namespace(publish_to, new_database):
    payments, others = new_database(), new_database()
    events = publish_to({"payments": payments, "*": others})

    for namespace in ("payments", "audit", "payments"):
        events.publish(f"{namespace}.noted", {}, namespace=namespace)
    assert events.drain(30)

    assert names(messages(payments, "payments")) == ["payments.noted"] * 2
    assert names(messages(others, "audit")) == ["audit.noted"]
    assert messages(payments, "audit") == messages(others, "payments") == []


def test_a_database_that_is_away_holds_up_no_other(publish_to, new_database):
    others = new_database()
    events = publish_to({"payments": NOWHERE, "*": others})

    for number in range(20):
        events.publish("payments.noted", number, namespace="payments")
        events.publish("audit.noted", number, namespace="audit")
    assert not events.drain(1)

    assert [event["payload"] for event in messages(others, "audit")] == list(range(20))


def test_the_events_of_an_outage_go_to_their_own_database_in_the_end(publish_to, new_database, own_postgres):
    others = new_database()
    own_postgres.shut_down("immediate")
    events = publish_to({"payments": own_postgres.dsn, "*": others})
    for number in range(20):
        events.publish("payments.noted", number, namespace="payments")
        events.publish("audit.noted", number, namespace="audit")
    assert not events.drain(2)

    own_postgres.start_again()
    assert events.drain(60)

    assert [event["payload"] for event in messages(own_postgres.dsn, "payments")] == list(range(20))
    assert [event["payload"] for event in messages(others, "audit")] == list(range(20))


def test_setup_prepares_all_of_them_and_a_worker_publishes_to_all(shop, new_database):
    payments, others = new_database("template1"), new_database("template1")
    mapping = {"payments": payments, "*": others}

    done = command({**shop.settings, "tasker_events_dsn": mapping}, "setup")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("PGMQ: installed") == 2
    worker = shop.start(dsn=mapping)
    shop.send("pay", 1).get(timeout=30)
    assert worker.stop() == 0

    assert "payment.processed" in names(messages(payments, "payments"))
    assert names(messages(others, "audit")) == ["payment.tried"]


def test_a_durable_namespace_without_a_database_stops_the_worker(shop, dsn):
    worker = shop.start(dsn={"payments": dsn}, wait_ready=False)

    assert worker.process.wait(30) == 1
    assert "durable events are declared (for queue 'audit_domain_events') but no database is" in worker.log


def test_a_command_for_one_database_asks_which(shop, new_database):
    mapping = {"payments": new_database(), "*": new_database()}

    done = command({**shop.settings, "tasker_events_dsn": mapping}, "queues")

    assert done.returncode == 2
    assert "the app's events are in 2 databases, name one with --dsn: payments: " in done.stderr


def test_a_confirmed_event_waits_for_its_own_database(publish_to, new_database):
    payments = new_database()
    events = publish_to({"payments": payments, "*": NOWHERE}, confirm_timeout_ms=30_000)

    @events.app.task(shared=False)
    @publishes_events("payment.processed", namespace="payments", confirm=True)
    def pay():
        return "paid"

    assert pay.apply().get() == "paid"
    assert names(messages(payments, "payments")) == ["payment.processed"]


@pytest.fixture
def hurried_threads():
    """Threads are switched as often as can be, so that locks which are taken in different orders meet."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hurried_threads")
def test_writers_of_two_databases_never_wait_for_each_other(publish_to, new_database):
    one, others = new_database(), new_database()
    events = publish_to({"one": one, "*": others}, command_buffer_size=10_000)

    for number in range(5000):
        events.publish("number.noted", number, namespace=("one", "two")[number % 2])
    assert events.drain(60)

    assert [event["payload"] for event in messages(one, "one")] == list(range(0, 5000, 2))
    assert [event["payload"] for event in messages(others, "two")] == list(range(1, 5000, 2))
