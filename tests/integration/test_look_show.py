"""``show`` finds one event wherever it is."""

from __future__ import annotations

import datetime
import json
import uuid

import click.testing
import pytest
from sending import event, message_of, send, send_raw, untouched

from celery_tasker_events import envelope
from celery_tasker_events.cli.main import main
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.event import StepError, new_event_id


def show(dsn: str, *arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["show", "--dsn", dsn, *arguments])


def places(dsn: str, *arguments: str) -> list[tuple[str, str]]:
    result = show(dsn, "--format", "json", *arguments)
    assert result.exit_code == 0, result.output
    return [(place["queue"], place["place"]) for place in json.loads(result.stdout)["places"]]


@pytest.mark.parametrize("name", envelope.NAMES)
def test_all_that_is_known_of_it_is_shown(dsn, name):
    failed = event("payment.failed", {"amount": 5}, status="failed", error=StepError("CardDeclined", "no funds", retryable=False))
    send(dsn, event(), failed, event(), envelope_name=name)

    shown = show(dsn, failed.event_id)

    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0] == "event           payment.failed 1.0"
    assert lines[1] == f"event id        {failed.event_id}"
    for line in (
        "outcome         failed",
        "error           CardDeclined: no funds",
        "duration        12.4 ms",
        "correlation id  order-1",
        "fired at        2026-01-01T10:00:00.000Z",
        f"envelope        {name}",
        "place           payments_domain_events, message 2",
        "read            0 times",
    ):
        assert line in lines
    whole = shown.stdout.partition("\nmessage ")[2]
    assert json.loads(whole) == json.loads(envelope.by_name(name).to_message(failed))


def test_it_is_found_in_the_archive_of_any_namespace(dsn):
    here, there = event(), event(namespace="audit")
    send(dsn, here, there, archive=True)
    send(dsn, event(), event(namespace="audit"))

    assert places(dsn, there.event_id) == [("audit_domain_events", "archive")]
    assert places(dsn, here.event_id) == [("payments_domain_events", "archive")]


def test_it_is_found_among_the_dead_letters(dsn):
    refused = event(payload="\0")
    letter = message_of(refused, envelope.by_name("native")).refused(ValueError("no NUL"))
    send_raw(dsn, letter.body.decode(), letter.queue)

    assert places(dsn, refused.event_id) == [("payments_domain_events_dlq", "queue")]
    assert "outcome         dead letter\nfailed stage    postgres\n" in show(dsn, refused.event_id).stdout


def test_what_was_committed_twice_is_shown_twice(dsn):
    twice = event()
    send(dsn, twice, twice)

    assert places(dsn, twice.event_id) == [("payments_domain_events", "queue")] * 2


@pytest.mark.parametrize("form", [str.upper, lambda event_id: event_id.replace("-", "")])
def test_an_id_may_be_written_in_any_way_that_a_uuid_may(dsn, form):
    wanted = event()
    send(dsn, wanted)

    assert places(dsn, form(wanted.event_id)) == [("payments_domain_events", "queue")]


def test_an_event_that_was_committed_long_after_it_fired_is_found_too(dsn):
    hours = datetime.timedelta(hours=5)
    early = uuid.UUID(int=uuid.UUID(new_event_id()).int - (int(hours.total_seconds() * 1000) << 80))
    send(dsn, event(event_id=str(early)))

    assert places(dsn, str(early)) == [("payments_domain_events", "queue")]


@pytest.mark.parametrize(
    "event_id", ["not-a-uuid", "3ac7f29b-2106-4882-b9a7-cbfefa91f23e", "ffffffff-ffff-7fff-bfff-ffffffffffff"]
)
def test_an_id_without_a_time_is_found_too(dsn, event_id):
    send(dsn, event(event_id=event_id), event())

    assert places(dsn, event_id) == [("payments_domain_events", "queue")]


def test_only_the_named_queues_are_looked_through(dsn):
    wanted = event(namespace="audit")
    send(dsn, wanted, event())
    send_raw(dsn, json.dumps({"event_id": "mail-1"}), "mails")

    assert show(dsn, wanted.event_id, "--queue", "payments").exit_code == 1
    assert places(dsn, wanted.event_id, "--queue", "payments", "--queue", "audit") == [("audit_domain_events", "queue")]
    assert places(dsn, "mail-1", "--queue", "mails") == [("mails", "queue")]


def test_what_is_nowhere_is_exit_code_1_and_says_where_it_was_looked_for(dsn):
    send(dsn, event())
    with connect(dsn) as connection:
        connection.execute("select pgmq.create('payments_domain_events_dlq')")

    result = show(dsn, "\x1b[2J")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        r"Error: no event \x1b[2J in payments_domain_events, payments_domain_events_dlq, nor in their archives: "
        "it may have been deleted\n"
    )


def test_hostile_content_is_escaped_and_nothing_changes_for_consumers(dsn):
    hostile = event(payload={"\x1b[2J": "\x07"}, step_name="\x1b]0;owned\x07")
    send(dsn, hostile)
    before = untouched(dsn)

    for arguments in ((), ("--format", "json")):
        assert all(line.isprintable() for line in show(dsn, hostile.event_id, *arguments).stdout.splitlines())
    assert untouched(dsn) == before
