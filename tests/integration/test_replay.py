"""``replay`` sends archived events once more: the same events, in order, and marked."""

from __future__ import annotations

import json

import click.testing
import psycopg
import pytest
from replaying import in_queue, replay, replayed
from sending import event, send, send_raw

from celery_tasker_events import envelope
from celery_tasker_events.cli.main import main
from celery_tasker_events.consumer import Consumer, MemoryStore
from celery_tasker_events.event import StepError

DECLINED = StepError("CardDeclined", "no funds", retryable=False)


def payloads(dsn, namespace="payments"):
    return [envelope.read(message).payload for message, _ in in_queue(dsn, namespace)]


def archive_all(dsn, queue="payments_domain_events"):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"select pgmq.archive('{queue}', array(select msg_id from pgmq.q_{queue} order by msg_id))")


@pytest.mark.parametrize("name", envelope.NAMES)
def test_it_is_the_same_event_with_a_mark(dsn, name):
    original = event(payload={"amount": 5})
    send(dsn, original, envelope_name=name, archive=True)

    replay_id = replayed(dsn, "--all")["replay_id"]

    [(message, headers)] = in_queue(dsn)
    again = envelope.read(message)
    assert envelope.recognise(message).name == name
    key = f"{original.metadata.idempotency_key}:{replay_id}"
    assert again.metadata.extra["replay_id"] == headers["replay_id"] == replay_id
    assert again.metadata.extra["replayed_at"] == headers["replayed_at"]
    assert again.metadata.idempotency_key == headers["idempotency_key"] == key
    assert headers["x-pgmq-group"] == "order-1"
    expected = json.loads(envelope.by_name(name).to_message(original))
    assert envelope.by_name(name).amended(expected, key, again.metadata.extra) == message
    assert (again.event_id, again.event_name, again.payload) == (original.event_id, "payment.processed", {"amount": 5})
    assert (again.metadata.correlation_id, again.metadata.fired_at) == ("order-1", original.metadata.fired_at)


def test_what_others_have_added_to_a_message_stays_and_no_number_changes(dsn):
    message = json.loads(envelope.by_name("native").to_message(event(payload=0.1)))
    send_raw(dsn, json.dumps({**message, "payload": {"big": 2**80, "small": 1e-9}, "ours": [None, "ä"]}))
    archive_all(dsn)

    replayed(dsn, "--all")

    [(again, _)] = in_queue(dsn)
    assert again["payload"] == {"big": 2**80, "small": 1e-9}
    assert again["ours"] == [None, "ä"]


def test_the_order_of_a_queue_is_kept_and_each_namespace_has_its_own(dsn):
    send(dsn, *(event(payload=number) for number in range(1200)), archive=True)
    send(dsn, event(payload="sent", namespace="mails"), archive=True)

    said = replayed(dsn, "--all")

    assert payloads(dsn) == list(range(1200))
    assert payloads(dsn, "mails") == ["sent"]
    assert (said["events"], said["by_event"]) == (1201, {"payment.processed": 1201})


@pytest.mark.parametrize("name", envelope.NAMES)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--event", "payment.*"), [1, 2]),
        (("--outcome", "failed"), [2]),
        (("--correlation-id", "order-2"), [3]),
        (("--event-id", "3"), [3]),
        (("--namespace", "payments"), [1, 2, 3]),
        (("--from", "1h"), [1, 2, 3]),
        (("--event", "payment.*", "--outcome", "completed"), [1]),
    ],
)
def test_only_what_is_asked_for_is_sent(dsn, name, options, expected):
    failed = event("payment.failed", 2, status="failed", error=DECLINED)
    other = event("refund.paid", 3, correlation_id="order-2", event_id="3")
    send(dsn, event(payload=1), failed, other, envelope_name=name, archive=True)
    send(dsn, event("mail.sent", 4, namespace="mails"), archive=True)

    replay(dsn, *options)

    assert payloads(dsn) == expected


def test_moments_are_those_at_which_events_were_enqueued(dsn):
    send(dsn, *(event(payload=number) for number in range(5)), archive=True)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "update pgmq.a_payments_domain_events"
            " set enqueued_at = timestamptz '2026-01-01 10:00+00' + msg_id * interval '1 hour'"
        )

    replayed(dsn, "--from", "2026-01-01T12:00:00Z", "--to", "2026-01-01T14:00:00Z")

    assert payloads(dsn) == [1, 2]


def test_a_replay_is_not_replayed(dsn):
    send(dsn, event(payload=1), archive=True)
    replayed(dsn, "--all")
    archive_all(dsn)

    assert replayed(dsn, "--all")["events"] == 1
    assert payloads(dsn) == [1]


def test_a_consumer_that_remembers_handles_each_replay_once(dsn):
    send(dsn, event(payload=1))
    seen = []
    consumer = Consumer(dsn, "payments", on_success="archive", store=MemoryStore())

    @consumer.on("*", with_delivery=True)
    def see(event, delivery):
        seen.append((event.payload, delivery.replay_id))

    consumer.run(until_empty=True)
    first, second = (replayed(dsn, "--all")["replay_id"] for _ in range(2))
    consumer.run(until_empty=True)

    assert seen == [(1, None), (1, first), (1, second)]


def test_a_dry_run_tells_what_would_be_sent_and_sends_nothing(dsn):
    send(dsn, *(event(payload=number) for number in range(12)), event("payment.failed", 12), archive=True)

    result = replay(dsn, "--all", "--dry-run")
    said = json.loads(replay(dsn, "--all", "--dry-run", "--format", "json").stdout)

    assert result.stdout.splitlines()[:3] == [
        "13 events would be replayed",
        "         1  payment.failed of payments_domain_events",
        "        12  payment.processed of payments_domain_events",
    ]
    assert said["events"] == 13
    assert [entry["payload"] for entry in said["first"]] == list(range(10))
    assert in_queue(dsn) == []
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select to_regclass('celery_tasker_events_replays')").fetchone() == (None,)


def test_many_events_are_asked_about(dsn):
    send(dsn, *(event(payload=number) for number in range(1001)), archive=True)

    refused = replay(dsn, "--all", answer="n\n")

    assert (refused.exit_code, in_queue(dsn)) == (1, [])
    assert replay(dsn, "--all", answer="y\n").exit_code == 0
    assert len(in_queue(dsn)) == 1001


def test_what_is_no_event_is_left_out_and_told(dsn):
    send(dsn, event(payload=1))
    send_raw(dsn, '{"event_name": "half"}')
    send_raw(dsn, None)
    send(dsn, event(payload=2))
    archive_all(dsn)

    result = replay(dsn, "--all")

    assert payloads(dsn) == [1, 2]
    assert result.stdout == "2 events replayed to the queue, 2 messages left out that are no events\n"
    assert "Left out: payments_domain_events (archive), message 2: not a domain event" in result.stderr


def test_a_replay_can_be_seen(dsn):
    send(dsn, event(payload=1), archive=True)
    replay_id = replayed(dsn, "--all")["replay_id"]

    def look(*arguments):
        return click.testing.CliRunner().invoke(main, [*arguments, "--dsn", dsn]).stdout

    original, again = look("tail", "payments").splitlines()
    assert ("(replay)" in original, "payment.processed (replay)" in again) == (False, True)
    assert look("trace", "order-1").count("payment.processed (replay)") == 1
    assert json.loads(look("tail", "payments", "-n", "1", "--format", "json"))["replay_id"] == replay_id
    event_id = envelope.read(in_queue(dsn)[0][0]).event_id
    assert f"replay          {replay_id}\n" in look("show", event_id)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "say which events"),
        (("--all", "--event", "*"), 2, "exclude each other"),
        (("--from", "1h", "--to", "2h"), 2, "--from must be before --to"),
        (("--resume", "x", "--all"), 2, "--resume goes on"),
        (("--resume", "x"), 1, "there is no replay 'x'"),
        (("--all", "--bus"), 2, "celery -A <your app> domain-events replay --bus"),
        (("--event", "a b"), 2, "Invalid value for '--event'"),
        (("--namespace", "paymnts"), 1, "Did you mean 'payments'?"),
        (("--event", "no.such"), 1, "no archived event is so"),
    ],
)
def test_what_can_not_be_is_told(dsn, arguments, code, words):
    send(dsn, event(), archive=True)

    result = replay(dsn, *arguments)

    assert result.exit_code == code
    assert words in " ".join(result.stderr.split())
    assert in_queue(dsn) == []
