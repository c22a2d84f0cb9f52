"""``queues`` tells what the queues hold, and no consumer notices."""

from __future__ import annotations

import datetime
import json
from typing import Any

import click.testing
import psycopg
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from sending import event, put, send, send_raw

from celery_tasker_events import DomainEvents, publishes_events
from celery_tasker_events.cli.celery_command import domain_events
from celery_tasker_events.cli.main import main
from celery_tasker_events.consumer import looking
from celery_tasker_events.consumer.looking import connect_to_look, find_queues, queue_states
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.errors import UnknownQueue


def queues(dsn: str, *arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["queues", "--dsn", dsn, *arguments])


def as_json(dsn: str, *arguments: str) -> list[dict[str, Any]]:
    result = queues(dsn, "--format", "json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def busy(dsn: str) -> str:
    """Three payments of which one is being worked on, one archived, one deleted, and a dead letter; audit is empty."""
    send(dsn, *(event() for _ in range(5)))
    with connect(dsn) as connection:
        connection.execute("select pgmq.create('audit_domain_events')")
        connection.execute("select pgmq.create('mails')")
        connection.execute("select pgmq.read('payments_domain_events', 600, 1)")
        connection.execute("select pgmq.archive('payments_domain_events', 2::bigint)")
        connection.execute("select pgmq.delete('payments_domain_events', 3::bigint)")
    send_raw(dsn, '{"failed_stage": "schema"}', "payments_domain_events_dlq")
    return dsn


def test_each_namespace_is_a_line(busy):
    result = queues(busy)

    heading, audit, payments = (line.split() for line in result.stdout.splitlines())
    assert heading == ["QUEUE", "LENGTH", "INVISIBLE", "OLDEST", "NEWEST", "TOTAL", "ARCHIVED", "DEAD"]
    assert audit == ["audit_domain_events", "0", "0", "-", "-", "0", "0", "-"]
    assert (payments[:3], payments[5:]) == (["payments_domain_events", "3", "1"], ["5", "1", "1"])


def test_json_has_an_object_for_each(busy):
    with psycopg.connect(busy) as connection:
        times = connection.execute("select min(enqueued_at), max(enqueued_at) from pgmq.q_payments_domain_events").fetchone()

    audit, payments = as_json(busy)

    assert [datetime.datetime.fromisoformat(payments.pop(name).replace("Z", "+00:00")) for name in ("oldest", "newest")] == [
        *times
    ]
    assert payments == {
        "queue": "payments_domain_events",
        "namespace": "payments",
        "length": 3,
        "invisible": 1,
        "total": 5,
        "archived": 1,
        "dead_letters": 1,
        "estimated": [],
    }
    assert (audit["oldest"], audit["dead_letters"], audit["length"]) == (None, None, 0)


def test_any_queue_can_be_named_by_its_namespace_or_its_name(busy):
    named = as_json(busy, "payments", "mails", "payments_domain_events_dlq")

    assert [(state["queue"], state["namespace"], state["length"]) for state in named] == [
        ("payments_domain_events", "payments", 3),
        ("mails", None, 0),
        ("payments_domain_events_dlq", "payments", 1),
    ]


def test_a_queue_that_is_not_there_is_told_with_what_may_be_meant(busy):
    result = queues(busy, "paymets")

    assert result.exit_code == 1
    assert "no queue is named 'paymets_domain_events' or 'paymets'. Did you mean 'payments'?" in result.stderr


def test_a_queue_without_an_archive_has_none(busy):
    with connect(busy) as connection:
        connection.execute("drop table pgmq.a_payments_domain_events")

    assert as_json(busy, "payments")[0]["archived"] is None


def test_a_database_without_queues_or_without_pgmq_says_so(dsn, bare_dsn):
    assert queues(dsn).stdout == "No queues of domain events.\n"
    assert queues(bare_dsn).exit_code == 1
    assert "PGMQ is not installed in database" in queues(bare_dsn).stderr


def test_a_long_queue_is_estimated_unless_it_is_to_be_exact(busy, monkeypatch):
    monkeypatch.setattr(looking, "COUNTED_EXACTLY", 2)
    with connect(busy) as connection:
        connection.execute("analyze")

    [estimated], [exact] = as_json(busy, "payments"), as_json(busy, "payments", "--exact")

    # The planner takes a table that small for longer than it is.
    assert estimated["length"] >= 3
    assert estimated["estimated"] == ["length"]
    assert queues(busy, "payments").stdout.splitlines()[1].split()[1] == f"~{estimated['length']}"
    assert (exact["length"], exact["estimated"]) == (3, [])


def test_an_app_says_which_of_its_queues_are_missing(busy):
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.tasker_events_dsn = busy
    DomainEvents(app)

    @app.task(shared=False, name="ship")
    @publishes_events("parcel.sent", namespace="shipping")
    @publishes_events("payment.sent", namespace="payments")
    def ship() -> None: ...

    context: Any = CLIContext(app=app, no_color=True, workdir=None)
    result = click.testing.CliRunner().invoke(domain_events, ["queues"], obj=context)

    assert result.exit_code == 0, result.output
    assert "payments_domain_events  3" in result.stdout
    assert result.stderr == "shipping_domain_events: declared by the app, not created yet: domain-events setup does it\n"


def test_a_queue_that_is_dropped_meanwhile_is_left_out(busy):
    with connect_to_look(busy) as connection:
        found = find_queues(connection)
        with connect(busy) as other:
            other.execute("select pgmq.drop_queue('payments_domain_events')")

        assert [state.queue.name for state in queue_states(connection, found)] == ["audit_domain_events"]
        with pytest.raises(UnknownQueue):
            find_queues(connection, ["payments"])


def test_a_connection_to_look_can_not_write(busy):
    with connect_to_look(busy) as connection, connection.transaction(), pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        put(connection, "payments_domain_events", "{}")


def test_a_user_who_may_not_read_is_told(busy):
    with connect(busy) as connection:
        name = connection.execute("select 'visitor_' || current_database()").fetchone()[0]
        connection.execute(f"create role {name} login")
        connection.execute(f"grant usage on schema pgmq to {name}")
    result = queues(f"{busy}&user={name}", "payments")

    assert result.exit_code == 1
    assert "permission denied for" in result.stderr
    assert "Traceback" not in result.output
