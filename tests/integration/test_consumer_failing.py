"""What a consumer does with events whose handlers fail, and with messages that are no events at all."""

from __future__ import annotations

import functools
import json
import logging

import orjson
import pytest
from consuming import Running, event, rows, send, send_raw
from queues import messages
from worker_process import wait_until

from celery_tasker_events.consumer import Consumer, Rejected, RetryLater, engine
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.envelope import by_name


def native(**changes: object) -> str:
    """A message in the native envelope, with other values: ``metadata__namespace`` is one inside ``metadata``."""
    message = orjson.loads(by_name("native").to_message(event(1)))
    for path, value in changes.items():
        *outer, key = path.split("__")
        functools.reduce(dict.__getitem__, outer, message)[key] = value
    return orjson.dumps(message).decode()


def at_once(_attempt: int) -> int:
    return 0


def test_an_event_is_tried_again_until_it_succeeds(dsn, caplog):
    send(dsn, [event(1)])
    consumer, attempts = Consumer(dsn, "payments", backoff=at_once), []

    @consumer.on("*", with_delivery=True)
    def handle(event, delivery):
        attempts.append(delivery.attempt)
        if delivery.attempt < 3:
            raise TimeoutError("the ledger is slow")

    consumer.run(until_empty=True)

    assert attempts == [1, 2, 3]
    assert messages(dsn, "payments") == messages(dsn, "payments", dead_letters=True) == []
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.attempt for record in told] == [1, 2]
    assert told[0].error == "the ledger is slow"
    assert told[0].event_name == "payment.processed"
    assert consumer.statistics()["retried"] == 2


def test_after_the_last_attempt_it_becomes_a_dead_letter_with_the_whole_message(dsn):
    send(dsn, [event(1), event(2)])
    (original, _) = messages(dsn, "payments")
    consumer, seen = Consumer(dsn, "payments", name="ledger", max_attempts=3, backoff=at_once), []

    @consumer.on("*")
    def handle(event):
        seen.append(event.payload)
        if event.payload == 1:
            raise ValueError("never mind \0")

    consumer.run(until_empty=True)

    assert seen == [1, 1, 1, 2]
    assert messages(dsn, "payments") == []
    (letter,) = messages(dsn, "payments", dead_letters=True)
    assert json.loads(letter["message_text"]) == original
    assert json.loads(letter["headers_text"])["x-pgmq-group"] == "w"
    assert letter["kept"] == "message"
    assert letter["error"] == {"error": "never mind \\u0000", "error_type": "ValueError"}
    assert letter["attempts"] == 3
    assert letter["consumer"] == "ledger"
    assert letter["failed_stage"] == "handler"
    assert letter["event_id"] == original["event_id"]


def test_a_handler_says_how_long_to_wait_or_that_no_attempt_can_help(dsn):
    send(dsn, [event(1, "a"), event(2, "b")])
    consumer, attempts = Consumer(dsn, "payments", backoff=lambda attempt: 3600), []

    @consumer.on("*", with_delivery=True)
    def handle(event, delivery):
        attempts.append(event.payload)
        if event.payload == 2:
            raise Rejected("no such customer")
        if delivery.attempt == 1:
            raise RetryLater(0)

    consumer.run(until_empty=True)

    assert sorted(attempts) == [1, 1, 2]
    (letter,) = messages(dsn, "payments", dead_letters=True)
    assert letter["error"] == {"error": "no such customer", "error_type": "Rejected"}


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        ('{"hello": "world"}', None),
        ("null", None),
        ("[1, 2]", '["no", "object"]'),
        ('"text"', None),
        ("1e400", None),
        ("[" * 1500 + "]" * 1500, None),
        ('{"event_id": 1, "execution_result": {}}', None),
        ('{"specversion": "1.0", "executionresult": "{"}', None),
        (native(event_name={"__class__": "os.system"}), None),
        (native(metadata__fired_at=5), None),
        (native(metadata__namespace=None), None),
        (native(execution_result__error={"type": "x", "eval": "1"}), None),
    ],
)
def test_what_is_no_event_becomes_a_dead_letter_with_the_reason_and_the_others_are_handled(dsn, message, headers):
    send_raw(dsn, message, headers)
    send(dsn, [event(2)])
    (body, _) = rows(dsn, "message::text")
    consumer, seen = Consumer(dsn, "payments", max_attempts=1), []
    consumer.on("*")(lambda event: seen.append(event.payload))

    consumer.run(until_empty=True)

    assert seen == [2]
    ((kept, stage, reason),) = rows(
        dsn, "message->>'message_text', message->>'failed_stage', message->'error'->>'error'", dead_letters=True
    )
    assert kept == body
    assert stage == "read"
    assert reason


def test_a_dead_letter_queue_that_may_not_be_made_keeps_its_event_and_lets_the_others_go_on(dsn, caplog, monkeypatch):
    monkeypatch.setattr(engine, "REFUSED_AGAIN", 0.2)
    send(dsn, [event(1, "a"), event(2, "b"), event(3, "a")])
    with connect(dsn) as connection:
        # It looks as if it were there, and can't be sent to.
        connection.execute("create view pgmq.q_payments_domain_events_dlq as select 1 as message")
        connection.execute("insert into pgmq.meta values ('payments_domain_events_dlq', false, false)")
    consumer, seen = Consumer(dsn, "payments", max_attempts=1), []

    @consumer.on("*")
    def handle(event):
        seen.append(event.payload)
        if event.payload == 1:
            raise RuntimeError

    with Running(consumer):
        wait_until(lambda: consumer.statistics()["handled"] == 1, "the other workflow goes on")
        wait_until(lambda: "can't be settled and are kept" in caplog.text, "it is told")
        with connect(dsn) as connection, connection.transaction():
            connection.execute("drop view pgmq.q_payments_domain_events_dlq")
            connection.execute("delete from pgmq.meta where queue_name = 'payments_domain_events_dlq'")
        wait_until(lambda: consumer.statistics()["handled"] == 2, "its workflow goes on when somebody has mended it")

    assert sorted(seen) == [1, 2, 3]
    (letter,) = messages(dsn, "payments", dead_letters=True)
    assert json.loads(letter["message_text"])["payload"] == 1


def test_a_settlement_that_takes_too_long_for_the_server_is_kept_and_lets_the_others_go_on(dsn, caplog):
    send(dsn, [event(1, "a"), event(2, "b")])
    with connect(dsn) as connection:
        connection.execute(
            "create function slow() returns trigger language plpgsql as "
            "'begin raise exception using errcode = ''query_canceled'', message = ''statement timeout''; end'"
        )
        connection.execute(
            "create trigger slow before delete on pgmq.q_payments_domain_events for each row "
            "when (old.message->>'payload' = '1') execute function slow()"
        )
    consumer, handled = Consumer(dsn, "payments"), []
    consumer.on("*")(lambda event: handled.append(event.payload))

    with Running(consumer):
        wait_until(lambda: consumer.statistics()["handled"] == 1, "the other is settled")
        wait_until(lambda: "1 messages can't be settled and are kept: QueryCanceled" in caplog.text, "it is told")

    assert handled == [1, 2]
    assert [message["payload"] for message in messages(dsn, "payments")] == [1]
    assert "waits for Postgres" not in caplog.text
