"""Whatever is in a message, it becomes an entry that can be shown."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sending import message_of

from celery_tasker_events import envelope, values
from celery_tasker_events.consumer.entry import Entry, Outline
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.event import DomainEvent, ExecutionResult

from ..making import CARD_DECLINED, FIRED_AT, make_bound, make_event
from ..test_values import JSON
from ..wire import EVENTS

AT = datetime.datetime(2026, 1, 1, 12, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))


def entry_of(message: object, queue: str = "payments_domain_events", **columns: Any) -> Entry:
    text = message if isinstance(message, str) or message is None else json.dumps(message)
    archived_at = columns.get("archived_at")
    return Entry.of(queue, (7, AT, archived_at, 0, AT, text, columns.get("headers", "{}")))


def sent(event: DomainEvent, name: str = "native") -> Any:
    return json.loads(envelope.by_name(name).to_message(event))


@pytest.mark.parametrize("name", envelope.NAMES)
def test_an_event_has_the_same_outline_in_every_envelope(name: str) -> None:
    result = ExecutionResult(
        success=False, status="failed", error=CARD_DECLINED, metadata={"attempt": 3, "execution_time_ms": 12.5}
    )
    event = make_event("payment.failed", {"reason": "no funds"}, execution_result=result)

    entry = entry_of(sent(event, name))

    assert entry.problem is None
    assert entry.outline == Outline(
        envelope=name,
        event_id=event.event_id,
        event_name="payment.failed",
        event_version="1.0",
        namespace="payments",
        step_name="process_payment",
        outcome="failed",
        attempt=3,
        execution_time_ms=12.5,
        correlation_id="root-1",
        task_uuid="root-1",
        step_uuid="task-1",
        fired_at=FIRED_AT,
        fired_by="worker@host",
        error_type="CardDeclined",
        error="no funds",
        payload={"reason": "no funds"},
    )
    assert entry.started_at == FIRED_AT - datetime.timedelta(milliseconds=12.5)


def test_times_are_told_in_utc() -> None:
    data = entry_of(sent(make_event()), archived_at=AT).as_json()

    assert data["enqueued_at"] == data["archived_at"] == "2026-01-01T10:00:00.000000Z"
    assert data["fired_at"] == "2025-12-01T10:00:00.123456Z"
    assert data["place"] == "archive"


def test_the_dead_letter_of_an_event_that_could_not_be_built_says_why() -> None:
    bound = make_bound()
    fields = {"event_id": "1", "event_name": "payment.processed", "namespace": "payments", "correlation_id": "c"}
    letter = DurableMessage.dead_letter(bound.declaration, "payments", "schema", ValueError("no amount"), "{}", fields)

    entry = entry_of(letter.body.decode(), letter.queue)

    assert entry.problem is None
    outline = entry.outline
    assert (outline.outcome, outline.failed_stage) == ("dead letter", "schema")
    assert (outline.error_type, outline.error) == ("ValueError", "no amount")
    assert (outline.event_id, outline.event_name, outline.correlation_id) == ("1", "payment.processed", "c")


@pytest.mark.parametrize("name", envelope.NAMES)
def test_the_dead_letter_of_a_message_that_postgres_refused_says_what_the_message_says(name: str) -> None:
    event = make_event(payload={"text": "\0"})
    letter = message_of(event, envelope.by_name(name)).refused(ValueError("no NUL"))

    outline = entry_of(letter.body.decode(), letter.queue).outline

    assert (outline.outcome, outline.failed_stage, outline.error) == ("dead letter", "postgres", "no NUL")
    assert (outline.correlation_id, outline.step_name, outline.fired_at) == ("root-1", "process_payment", FIRED_AT)
    assert outline.payload == {"text": "\0"}


@pytest.mark.parametrize("name", envelope.NAMES)
def test_the_dead_letter_of_a_consumer_says_what_the_event_in_it_says(name: str) -> None:
    letter = {"failed_stage": "handler", "error": {"error": "no"}, "message": sent(make_event(payload=5), name), "headers": {}}

    outline = entry_of(letter, "payments_domain_events_dlq").outline

    assert (outline.outcome, outline.failed_stage, outline.error) == ("dead letter", "handler", "no")
    assert (outline.event_name, outline.step_name, outline.payload) == ("payment.processed", "process_payment", 5)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (None, "not a domain event"),
        ("null", "not a domain event"),
        ("[1]", "not a domain event"),
        ({"event_name": "a.b"}, "not a domain event"),
        ({"event_id": "1", "execution_result": {}}, "not a whole domain event in the native envelope"),
        ("1" * 5000, "not decoded: ValueError"),
        ("[" * 200_000 + "]" * 200_000, "not decoded: RecursionError"),
    ],
    ids=["no message", "null", "a list", "a name only", "half an event", "a long number", "a deep list"],
)
def test_what_is_no_event_is_an_entry_with_a_problem(message: Any, problem: str) -> None:
    entry = entry_of(message)

    assert entry.problem is not None
    assert entry.problem.startswith(problem)
    assert entry.moment == AT
    json.dumps(entry.as_json())


def test_what_is_no_event_keeps_the_name_that_it_has() -> None:
    assert entry_of({"event_name": "a.b"}).outline == Outline(event_name="a.b")
    assert entry_of({"event_name": ["a"]}).outline == Outline(event_name='["a"]')


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metadata", "step_name"), {"a": 1}),
        (("metadata", "fired_at"), "2026-01-01T10:00:00"),
        (("metadata", "fired_at"), "0001-01-01T00:00:00+14:00"),
        (("execution_result", "metadata"), [1]),
        (("execution_result", "metadata"), {"attempt": "2", "execution_time_ms": True}),
        (("execution_result", "metadata"), {"execution_time_ms": 1e300}),
        (("execution_result", "error"), {"type": 1, "message": None, "retryable": "?"}),
        (("event_name",), 5),
    ],
)
def test_a_part_of_an_unexpected_type_does_no_harm(path: tuple[str, ...], value: Any) -> None:
    message = sent(make_event())
    owner = message
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value

    entry = entry_of(message)

    assert isinstance(entry.started_at, datetime.datetime)
    json.dumps(entry.as_json())


@given(JSON)
def test_any_json_is_an_entry(message: Any) -> None:
    for queue in ("payments_domain_events", "payments_domain_events_dlq"):
        json.dumps(entry_of(json.dumps(message), queue).as_json())


@given(st.dictionaries(st.sampled_from(["failed_stage", "error", "message_text", "message", "event_id", "namespace"]), JSON))
def test_any_dead_letter_is_an_entry(letter: dict[str, Any]) -> None:
    json.dumps(entry_of(values.encode(letter).decode(), "payments_domain_events_dlq").as_json())


@given(EVENTS, st.sampled_from(envelope.NAMES))
def test_any_event_is_an_entry_without_a_problem(event: DomainEvent, name: str) -> None:
    entry = entry_of(envelope.by_name(name).to_message(event).decode())

    assert entry.problem is None
    assert entry.outline.payload == event.payload
    json.dumps(entry.as_json())
