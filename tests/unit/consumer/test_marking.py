"""The mark of a replay: the event is the same, whichever envelope it is in, and says that it comes once more."""

from __future__ import annotations

import dataclasses
import datetime
import json

import pytest

from celery_tasker_events import envelope
from celery_tasker_events.consumer.delivery import Unreadable
from celery_tasker_events.consumer.marking import Mark
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult

AT = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
MARK = Mark("r1", AT)
MARKS = {"replay_id": "r1", "replayed_at": "2026-01-02T00:00:00.000000Z"}
METADATA = EventMetadata("w", "s", "pay", "payments", "c", AT, "worker@host", "key")
EVENT = DomainEvent("e", "payment.processed", {"amount": 5}, METADATA, ExecutionResult(True, "completed", None, {"attempt": 1}))


def with_metadata(**changes):
    return dataclasses.replace(EVENT, metadata=dataclasses.replace(METADATA, **changes))


@pytest.mark.parametrize("name", envelope.NAMES)
@pytest.mark.parametrize("key", ["key", "", "a\nb"])
@pytest.mark.parametrize("extra", [{}, {"tenant": "blue", "replay_id": "of another"}])
def test_all_but_the_mark_is_as_it_was(name, key, extra):
    event = with_metadata(idempotency_key=key, extra=extra)

    marked = MARK.put_on("q", 7, envelope.by_name(name).to_message(event).decode(), '{"traceparent": "t", "x-pgmq-group": "w"}')

    new_key = f"{key or 'e'}:r1"
    assert marked.event == with_metadata(idempotency_key=new_key, extra={**extra, **MARKS})
    assert envelope.read(json.loads(marked.body)) == marked.event
    assert envelope.recognise(json.loads(marked.body)).name == name
    assert marked.headers == {"traceparent": "t", "x-pgmq-group": "w", "idempotency_key": new_key, **MARKS}


@pytest.mark.parametrize("headers", [None, "{}", "null", "[]"])
def test_without_a_group_it_gets_that_of_its_workflow(headers):
    marked = MARK.put_on("q", 7, envelope.by_name("native").to_message(EVENT).decode(), headers)

    assert marked.headers == {"x-pgmq-group": "w", "idempotency_key": "key:r1", **MARKS}


@pytest.mark.parametrize(
    "body",
    [None, "null", "1", "{}", '{"event_id": "1", "execution_result": 2}', "1" * 5000, "[" * 100_000],
    ids=["none", "null", "number", "empty", "half", "long number", "deep"],
)
def test_what_is_no_event_can_not_be_marked(body):
    with pytest.raises(Unreadable):
        MARK.put_on("q", 7, body, None)


def test_a_number_that_python_can_not_keep_is_not_changed_but_refused():
    body = envelope.by_name("native").to_message(EVENT).decode().replace("5", "1e999", 1)

    with pytest.raises(Unreadable, match="Out of range float values"):
        MARK.put_on("q", 7, body, None)
