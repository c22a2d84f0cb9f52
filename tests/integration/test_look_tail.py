"""``tail`` shows the last events of a queue and its archive, and no consumer notices."""

from __future__ import annotations

import json
from typing import Any

import click.testing
import psycopg
import pytest
from sending import event, send, send_raw, untouched

from celery_tasker_events import envelope
from celery_tasker_events.cli.main import main
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.event import StepError

DECLINED = StepError("CardDeclined", "no funds", retryable=False)


def tail(dsn: str, *arguments: str) -> str:
    result = click.testing.CliRunner().invoke(main, ["tail", "--dsn", dsn, *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def entries(dsn: str, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tail(dsn, "--format", "json", *arguments).splitlines()]


def numbers(dsn: str, *arguments: str) -> list[int]:
    return [entry["payload"] for entry in entries(dsn, *arguments)]


@pytest.mark.parametrize("name", envelope.NAMES)
def test_an_event_is_a_line_in_whichever_envelope_it_is(dsn, name):
    failed = event("payment.failed", status="failed", error=DECLINED, after_ms=1500)
    send(dsn, event(payload={"amount": 5}), failed, envelope_name=name)

    assert [line.split(maxsplit=5) for line in tail(dsn, "payments").splitlines()] == [
        ["2026-01-01T10:00:00.000Z", "payment.processed", "completed", "process_payment", "order-1", '{"amount": 5}'],
        ["2026-01-01T10:00:01.500Z", "payment.failed", "failed", "process_payment", "order-1", "CardDeclined: no funds"],
    ]


def test_json_is_one_object_a_line_with_all_that_is_known(dsn):
    sent = event(payload={"amount": 5})
    [msg_id] = send(dsn, sent)

    [entry] = entries(dsn, "payments")

    assert entry["message"] == json.loads(envelope.by_name("native").to_message(sent))
    assert entry["headers"] == {"idempotency_key": sent.event_id, "x-pgmq-group": "order-1"}
    assert (entry["queue"], entry["place"], entry["msg_id"]) == ("payments_domain_events", "queue", msg_id)
    assert (entry["event_id"], entry["outcome"], entry["payload"]) == (sent.event_id, "completed", {"amount": 5})


def test_the_last_ones_come_and_the_newest_is_last(dsn):
    send(dsn, *(event(payload=number) for number in range(15)))

    assert numbers(dsn, "payments") == list(range(5, 15))
    assert numbers(dsn, "payments", "-n", "2") == [13, 14]
    assert numbers(dsn, "payments", "-n", "0") == []


def test_what_is_archived_is_among_them(dsn):
    send(dsn, event(payload=1), event(payload=2), archive=True)
    send(dsn, event(payload=3))

    assert [(entry["payload"], entry["place"]) for entry in entries(dsn, "payments", "-n", "2")] == [(2, "archive"), (3, "queue")]


def test_without_a_queue_all_namespaces_are_read_in_the_order_of_time(dsn):
    send(dsn, event(payload=1))
    send(dsn, event(payload=2, namespace="audit"))
    send(dsn, event(payload=3))
    send_raw(dsn, "{}", "mails")

    assert numbers(dsn) == [1, 2, 3]
    assert numbers(dsn, "-n", "2") == [2, 3]
    assert [line.split()[1] for line in tail(dsn).splitlines()] == [
        "payments_domain_events", "audit_domain_events", "payments_domain_events"
    ]  # fmt: skip


@pytest.mark.parametrize("name", envelope.NAMES)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--event", "payment.*"), [1, 2, 5]),
        (("--event", "payment.failed"), [2]),
        (("--event", "*.card.failed"), [3]),
        (("--event", "*"), [1, 2, 3, 4, 5]),
        (("--event", "paymentx*.failed"), None),
        (("--outcome", "failed"), [2, 3]),
        (("--correlation-id", "order-2"), [4, 5]),
        (("--correlation-id", "order-2", "--event", "payment.*"), [5]),
        (("--event", "*", "-n", "1"), [5]),
    ],
)
def test_the_server_filters(dsn, name, options, expected):
    send(
        dsn,
        event("payment.processed", 1),
        event("payment.failed", 2, status="failed", error=DECLINED),
        event("payment.card.failed", 3, status="failed", error=DECLINED),
        event("payments.failed_", 4, correlation_id="order-2"),
        event("payment.x", 5, correlation_id="order-2"),
        envelope_name=name,
    )

    if expected is None:
        assert click.testing.CliRunner().invoke(main, ["tail", "--dsn", dsn, *options]).exit_code == 2
    else:
        assert numbers(dsn, "payments", *options) == expected


def test_nothing_changes_for_consumers(dsn):
    send(dsn, *(event() for _ in range(3)))
    before = untouched(dsn)

    tail(dsn, "payments")

    assert untouched(dsn) == before
    with psycopg.connect(dsn) as connection:
        assert len(connection.execute("select pgmq.read('payments_domain_events', 30, 10)").fetchall()) == 3


@pytest.mark.parametrize(
    "message",
    [None, "null", "1", '"text"', "[]", "{}", '{"event_name": 5}', '{"event_id": "1", "execution_result": 2, "metadata": null}',
     "1" * 5000, "[" * 3000 + "]" * 3000],
    ids=["none", "null", "number", "text", "list", "empty", "named", "half", "long number", "deep"],
)  # fmt: skip
def test_what_is_no_event_is_shown_as_such_between_the_others(dsn, message):
    send(dsn, event(payload=1))
    msg_id = send_raw(dsn, message)
    send(dsn, event(payload=2))

    first, other, last = tail(dsn, "payments").splitlines()
    assert f"message {msg_id}: not " in other
    assert (first[-1], last[-1]) == ("1", "2")
    assert entries(dsn, "payments")[1]["problem"].startswith("not ")


def test_a_dead_letter_says_why(dsn):
    send_raw(
        dsn,
        json.dumps(
            {"event_name": "payment.processed", "failed_stage": "schema", "error": {"error": "no amount", "error_type": "E"}}
        ),
        "payments_domain_events_dlq",
    )

    line = tail(dsn, "payments_domain_events_dlq")

    assert line.split()[1:4] == ["payment.processed", "dead", "letter"]
    assert line.endswith("E: no amount\n")


def test_no_control_character_reaches_the_terminal(dsn):
    send(dsn, event(payload={"text": "\x1b[2J\x07\u202e"}, step_name="\x1b]0;owned\x07", correlation_id="a\nb"))
    send_raw(dsn, json.dumps({"event_name": "\x1b[2J"}))

    for arguments in ((), ("--format", "json")):
        written = tail(dsn, "payments", *arguments)
        assert all(line.isprintable() for line in written.splitlines())
        assert len(written.splitlines()) == 2


def test_a_visibility_timeout_without_an_end_can_be_shown(dsn):
    send(dsn, event())
    with connect(dsn) as connection:
        connection.execute("update pgmq.q_payments_domain_events set vt = 'infinity'")

    assert entries(dsn, "payments")[0]["visible_at"] == "9999-12-01T00:00:00.000000Z"
