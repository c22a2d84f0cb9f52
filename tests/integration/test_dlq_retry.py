"""``dlq retry`` on a real Postgres: what can be published after all, by whom, and as which event."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click.testing
import psycopg
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from paying_shop import AMOUNT, letters, listed, run_alone
from queues import messages

from celery_tasker_events import BasePublisher, DomainEvents
from celery_tasker_events.cli.celery_command import domain_events


@pytest.fixture
def refusing(dsn):
    """Postgres refuses the payments whose total is negative, until ``refusing()`` is called."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pgmq.create('payments_domain_events')")
        connection.execute(
            "alter table pgmq.q_payments_domain_events add constraint no_debts "
            "check (coalesce((message->'payload'->>'amount')::int, 0) >= 0)"
        )

    def mend() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("alter table pgmq.q_payments_domain_events drop constraint no_debts")

    return mend


def test_what_violated_its_schema_is_published_by_mended_code_as_the_same_event(dsn, open_shop):
    open_shop().pay({"total": 1})
    [letter] = letters(dsn)
    kept = json.loads(letter["outcome_text"])

    result = open_shop(schema=None).run("retry", "1")

    assert result.exit_code == 0, result.output
    assert result.output == (
        "payments 1 payment.processed: published as message 1 of payments_domain_events\n1 published, 0 left\n"
    )
    [event] = messages(dsn, "payments")
    assert letters(dsn) == []
    assert (event["payload"], event["event_version"]) == ({"total": 1}, "2.0")
    assert event["event_id"] == letter["event_id"] == kept["event_id"]
    assert event["metadata"]["idempotency_key"] == kept["idempotency_key"]
    assert event["metadata"]["step_uuid"] == letter["step_uuid"]


def test_json_tells_what_became_of_each_letter(dsn, open_shop):
    open_shop().pay({"total": 1}, 1j)

    told = [open_shop(schema=None).run("retry", "--all", "--format", "json", *more) for more in (["--dry-run"], [])]

    assert [result.exit_code for result in told] == [1, 1]
    would, did = [json.loads(result.stdout) for result in told]
    assert [(said["dry_run"], said["done"], said["left"]) for said in (would, did)] == [(True, 1, 1), (False, 1, 1)]
    assert would["letters"][0]["what"] == "would be made again by the app, and sent"
    assert did["letters"][0] == {
        "namespace": "payments",
        "message_id": 1,
        "event_name": "payment.processed",
        "stays": False,
        "what": "published as message 1 of payments_domain_events",
    }
    assert did["letters"][1]["stays"] is True


def test_a_retried_event_differs_in_nothing_from_one_that_was_right_at_once(dsn, open_shop):
    shop = open_shop(schema=None)
    shop.pay({"total": 1})
    [at_once] = messages(dsn, "payments")
    picky = open_shop()
    picky.pay({"total": 1})

    assert shop.run("retry", "--all").exit_code == 0

    _, later = messages(dsn, "payments")
    assert later.keys() == at_once.keys()
    for event in (at_once, later):
        for own in ("event_id", "metadata"):
            event.pop(own)
        event["execution_result"]["metadata"].pop("execution_time_ms")
    assert later == at_once


def test_what_still_violates_its_schema_stays_and_is_told_with_the_reason(dsn, open_shop):
    shop = open_shop()
    shop.pay({"total": 1})
    before = letters(dsn)

    result = shop.run("retry", "1")

    assert result.exit_code == 1
    assert (
        "payments 1 payment.processed: stays: schema: SchemaViolation: payload: 'amount' is a required property" in result.output
    )
    assert "0 published, 1 left" in result.output
    assert letters(dsn) == before
    assert messages(dsn, "payments") == []


def test_what_postgres_refused_is_sent_as_it_was_by_anybody_with_the_database(dsn, open_shop, refusing):
    open_shop().pay({"amount": 1}, {"amount": -1})
    [letter] = letters(dsn)

    refused_again = run_alone(dsn, "retry", "--all")
    refusing()
    published = run_alone(dsn, "retry", "--all")

    assert refused_again.exit_code == 1
    assert "stays: Postgres: CheckViolation" in refused_again.output
    assert published.exit_code == 0, published.output
    assert letters(dsn) == []
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select message, headers from pgmq.q_payments_domain_events order by msg_id").fetchall()
    (first, first_headers), (second, second_headers) = rows
    assert second == json.loads(letter["message_text"])
    assert second_headers == json.loads(letter["headers_text"])
    assert (second_headers.keys(), second.keys()) == (first_headers.keys(), first.keys())


def test_without_the_app_what_only_the_app_can_make_stays(dsn, open_shop):
    open_shop().pay({"total": 1})

    result = run_alone(dsn, "retry", "--all")

    assert result.exit_code == 1
    assert "only the app can make this event again: celery -A" in result.output
    assert len(letters(dsn)) == 1


def test_of_what_is_no_json_text_is_kept_and_that_can_not_be_retried(dsn, open_shop):
    shop = open_shop()
    shop.pay({"socket": 1j})

    result = shop.run("retry", "1")

    assert result.exit_code == 1
    assert "stays: it keeps no more than text" in result.output
    assert [letter["retry"] for letter in listed(shop.run("list", "--format", "json"))] == ["no"]


TEMPLATE = """\
name: checkout
namespace_name: payments
steps: []
domain_events:
  - name: order.noted
    schema: {type: %s}
"""


def test_an_event_that_was_published_by_hand_is_published_again(dsn, open_shop, tmp_path):
    template = tmp_path / "checkout.yaml"
    template.write_text(TEMPLATE % "string")
    event_id = (shop := open_shop(templates=[str(template)])).events.publish("order.noted", 7, correlation_id="order-7")
    assert shop.events.drain(60)
    template.write_text(TEMPLATE % "integer")

    result = open_shop(templates=[str(template)]).run("retry", "1")

    assert result.exit_code == 0, result.output
    [event] = messages(dsn, "payments")
    assert (event["event_id"], event["payload"], event["metadata"]["correlation_id"]) == (event_id, 7, "order-7")
    assert event["metadata"]["idempotency_key"] == event_id


@pytest.mark.parametrize("schema", [AMOUNT, None], ids=["unmended", "mended"])
def test_a_dry_run_changes_nothing(dsn, open_shop, schema):
    open_shop().pay({"total": 1}, 1j)
    before = letters(dsn)

    result = open_shop(schema=schema).run("retry", "--all", "--dry-run")

    assert "payments 1 payment.processed: would be made again by the app, and sent" in result.output
    assert "payments 2 payment.processed: stays: it keeps no more than text" in result.output
    assert "1 to publish, 1 left" in result.output
    assert letters(dsn) == before
    assert messages(dsn, "payments") == []


def test_two_that_retry_at_once_publish_each_event_once(dsn, open_shop, refusing):
    open_shop().pay(*[{"amount": -number} for number in range(1, 41)])
    ids = {letter["event_id"] for letter in letters(dsn)}
    refusing()

    with ThreadPoolExecutor(4) as threads:
        results = [future.result() for future in [threads.submit(run_alone, dsn, "retry", "--all") for _ in range(4)]]

    assert [result.exit_code for result in results] == [0] * 4, [result.output for result in results]
    published = [event["event_id"] for event in messages(dsn, "payments")]
    assert sorted(published) == sorted(ids)
    assert letters(dsn) == []


class Picky(BasePublisher):
    def should_publish(self, step_result: Any, declaration: Any, context: Any) -> bool:
        return False


class Enlarging(BasePublisher):
    def transform_payload(self, step_result: Any, declaration: Any, context: Any) -> Any:
        return "x" * 5000 if context.args == [{"amount": 1}] else "?"


def test_what_a_publisher_made_too_large_is_published_when_the_limit_is_raised(dsn, open_shop):
    open_shop(schema=None, publisher=Enlarging, max_event_bytes=2048).pay({"amount": 1})
    [letter] = letters(dsn)

    result = open_shop(schema=None, publisher=Enlarging, max_event_bytes=10_000).run("retry", "1")

    assert (letter["failed_stage"], letter["size_bytes"], len(letter["payload_text"])) == ("size", 5002, 2048)
    assert "tasker_events_max_event_bytes is 2048" in letter["error"]["error"]
    assert result.exit_code == 0, result.output
    assert [event["payload"] for event in messages(dsn, "payments")] == ["x" * 5000]


def test_what_its_publisher_does_not_want_any_more_or_nobody_declares_any_more_stays(dsn, open_shop):
    open_shop().pay({"total": 1})

    unwanted = open_shop(schema=None, publisher=Picky).run("retry", "1")
    empty = Celery("empty", set_as_current=False)
    empty.conf.tasker_events_dsn = dsn
    DomainEvents(empty)
    context: Any = CLIContext(app=empty, no_color=True, workdir=None)
    undeclared = click.testing.CliRunner().invoke(domain_events, ["dlq", "retry", "1"], obj=context)

    assert "stays: its publisher does not want it published any more" in unwanted.output
    assert "stays: task shop.pay does not declare event 'payment.processed' any more" in undeclared.output
    assert (unwanted.exit_code, undeclared.exit_code, len(letters(dsn))) == (1, 1, 1)
