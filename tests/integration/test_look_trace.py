"""``trace`` tells the story of one workflow over all namespaces."""

from __future__ import annotations

import json

import click.testing
import pytest
from celery import Celery, chain, chord, group
from sending import event, message_of, send, send_raw, untouched

from celery_tasker_events import DomainEvents, envelope, publishes_events
from celery_tasker_events.cli.main import main
from celery_tasker_events.durable.pool import connect


def trace(dsn: str, *arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["trace", "--dsn", dsn, *arguments])


def story(dsn: str, *arguments: str) -> list[str]:
    result = trace(dsn, "--format", "json", *arguments)
    assert result.exit_code == 0, result.output
    return [entry["event_name"] for entry in json.loads(result.stdout)["events"]]


@pytest.fixture
def order(dsn):
    """One workflow over two namespaces, a queue and an archive, between the events of others."""
    send(dsn, event("stock.reserved", namespace="stock", step_name="reserve", after_ms=100, took_ms=100), archive=True)
    send(
        dsn, event("payment.processed", correlation_id="order-2"), event("mail.sent", step_name="mail", after_ms=400, took_ms=300)
    )
    send(dsn, event("payment.processed", after_ms=300, took_ms=200), event("other", correlation_id="order-11"))
    return dsn


def test_the_events_of_a_workflow_are_a_timeline(order):
    result = trace(order, "order-1")

    headline, heading, *rows = result.stdout.splitlines()
    assert headline == "3 events of 3 steps in 2 namespaces, 0.400 s from 2026-01-01T10:00:00.000Z"
    assert heading.split() == ["AT", "NAMESPACE", "STEP", "EVENT", "OUTCOME", "TRY", "TOOK", "TIMELINE"]
    assert [row.split()[:9] for row in rows] == [
        ["+0.100", "s", "stock", "reserve", "stock.reserved", "completed", "1", "100", "ms"],
        ["+0.300", "s", "payments", "process_payment", "payment.processed", "completed", "1", "200", "ms"],
        ["+0.400", "s", "payments", "mail", "mail.sent", "completed", "1", "300", "ms"],
    ]
    # The last two ran at the same time.
    assert [(row.index("█"), row.rindex("█")) for row in rows] == [
        (heading.index("TIMELINE") + first, heading.index("TIMELINE") + last) for first, last in ((0, 10), (10, 30), (10, 39))
    ]


def test_json_is_one_object(order):
    data = json.loads(trace(order, "order-1", "--format", "json").stdout)

    events = data.pop("events")
    assert data == {
        "correlation_id": "order-1",
        "started_at": "2026-01-01T10:00:00.000000Z",
        "ended_at": "2026-01-01T10:00:00.400000Z",
        "duration_ms": 400,
        "limited": False,
    }
    assert [(entry["event_name"], entry["place"], entry["started_at"], entry["offset_ms"]) for entry in events] == [
        ("stock.reserved", "archive", "2026-01-01T10:00:00.000000Z", 100),
        ("payment.processed", "queue", "2026-01-01T10:00:00.100000Z", 300),
        ("mail.sent", "queue", "2026-01-01T10:00:00.100000Z", 400),
    ]


@pytest.mark.parametrize("name", envelope.NAMES)
def test_every_envelope_and_the_dead_letters_are_searched(dsn, name):
    send(dsn, event("payment.processed"), envelope_name=name)
    wire = envelope.by_name(name)
    for refused in (
        event("payment.refused", "\0", after_ms=100),
        event("payment.mentions_it", "\0 order-1", correlation_id="order-2", after_ms=200),
    ):
        letter = message_of(refused, wire).refused(ValueError("no NUL"))
        send_raw(dsn, letter.body.decode(), letter.queue)
    letter = {
        "event_name": "payment.invalid",
        "failed_stage": "schema",
        "correlation_id": "order-1",
        "error": {"error": "no amount"},
    }
    send_raw(dsn, json.dumps(letter), "payments_domain_events_dlq")

    assert story(dsn, "order-1") == ["payment.processed", "payment.refused", "payment.invalid"]
    assert "dead letter: schema" in trace(dsn, "order-1").stdout


def test_a_correlation_id_may_be_any_text(dsn):
    odd = 'a "quoted" \\ id, %s, {}, Grüße'
    send(dsn, event("payment.odd", correlation_id=odd))
    refused = message_of(event("payment.refused", "\0", correlation_id=odd, after_ms=1), envelope.by_name("native"))
    send_raw(dsn, refused.refused(ValueError()).body.decode(), "payments_domain_events_dlq")

    assert story(dsn, odd) == ["payment.odd", "payment.refused"]


def test_half_an_event_belongs_to_the_story_too(dsn):
    send(dsn, event())
    send_raw(dsn, json.dumps({"event_name": "payment.half", "metadata": {"correlation_id": "order-1"}}))

    assert story(dsn, "order-1") == ["payment.processed", "payment.half"]
    assert "not a domain event" in trace(dsn, "order-1").stdout


def test_a_limit_is_told(dsn):
    send(dsn, *(event(after_ms=number) for number in range(5)))

    result = trace(dsn, "order-1", "--limit", "3")

    assert len(result.stdout.splitlines()) == 2 + 3
    assert result.stderr == "There may be more than these 3 events: --limit\n"
    assert json.loads(trace(dsn, "order-1", "--limit", "3", "--format", "json").stdout)["limited"] is True


def test_since_leaves_out_what_was_enqueued_before(order):
    with connect(order) as connection:
        connection.execute("update pgmq.a_stock_domain_events set enqueued_at = now() - interval '3 hours'")
        connection.execute("update pgmq.q_payments_domain_events set enqueued_at = now() - interval '1 hour' where msg_id < 3")

    assert story(order, "order-1", "--since", "4h") == ["stock.reserved", "payment.processed", "mail.sent"]
    assert story(order, "order-1", "--since", "2h") == ["payment.processed", "mail.sent"]
    assert story(order, "order-1", "--since", "30m") == ["payment.processed"]


def test_only_the_named_queues_are_looked_through(order):
    assert story(order, "order-1", "--queue", "stock") == ["stock.reserved"]


def test_what_is_nowhere_is_exit_code_1(order):
    result = trace(order, "order-3")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "no event with the correlation id order-3 in payments_domain_events, stock_domain_events, nor" in result.stderr


def test_nothing_changes_for_consumers(order):
    before = untouched(order)
    trace(order, "order-1")

    assert untouched(order) == before


def test_a_real_workflow_is_told_from_its_first_step_to_its_last(dsn):
    app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(tasker_events_dsn=dsn, task_always_eager=True)
    events = DomainEvents(app)

    def step(name, namespace):
        @app.task(shared=False, name=name)
        @publishes_events(f"{namespace}.{name}", namespace=namespace)
        def run(*_): ...

        return run

    reserve, charge, mail, close = (
        step("reserve", "stock"),
        step("charge", "payments"),
        step("mail", "mails"),
        step("close", "stock"),
    )
    with events.correlation("order-7"):
        chain(reserve.si(), chord(group(charge.si(), mail.si()), close.si())).apply_async()
    assert events.close(30)

    assert sorted(story(dsn, "order-7")) == ["mails.mail", "payments.charge", "stock.close", "stock.reserve"]
