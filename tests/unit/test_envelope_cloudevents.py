"""The cloudevents envelope against the PyPI package ``cloudevents``, and against what the specification says of attributes."""

from __future__ import annotations

import re
import unicodedata
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given

from celery_tasker_events import envelope
from celery_tasker_events.event import DomainEvent, ExecutionResult

from .making import CARD_DECLINED, FIRED_AT, make_event, make_metadata
from .wire import EVENTS

CLOUDEVENTS = envelope.by_name("cloudevents")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def parsed(message: bytes) -> CloudEvent:
    """The message as the library understands it; it refuses what is no CloudEvent."""
    event = from_http_event(HTTPMessage({"content-type": "application/cloudevents+json"}, message))
    assert isinstance(event, CloudEvent)
    return event


def test_the_library_reads_what_every_cloudevent_has() -> None:
    event = parsed(CLOUDEVENTS.to_message(make_event(payload={"amount": 99.99})))

    assert event.get_specversion() == "1.0"
    assert event.get_id() == "0199c3e0-d123-7000-8000-000000000001"
    assert event.get_type() == "payment.processed"
    assert event.get_source() == "/payments/process_payment"
    assert event.get_subject() == "task-1"
    assert event.get_time() == FIRED_AT
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == {"amount": 99.99}


def test_the_library_reads_our_extensions() -> None:
    metadata = make_metadata(task_uuid="root-1", step_uuid="task-1", correlation_id="c-1", extra={"tenant": {"name": "acme"}})
    result = ExecutionResult(False, "failed", CARD_DECLINED, {"attempt": 2, "execution_time_ms": 12.5})

    event = parsed(CLOUDEVENTS.to_message(make_event(metadata=metadata, execution_result=result), TRACEPARENT))

    extensions = {
        "taskuuid": "root-1",
        "stepuuid": "task-1",
        "stepname": "process_payment",
        "namespace": "payments",
        "correlationid": "c-1",
        "firedby": "worker@host",
        "idempotencykey": "key-1",
        "eventversion": "1.0",
        "partitionkey": "root-1",
        "traceparent": TRACEPARENT,
        "success": False,
        "status": "failed",
        "attempt": 2,
        "errortype": "CardDeclined",
    }
    assert {name: event.get_extension(name) for name in extensions} == extensions
    assert orjson.loads(event.get_extension("moremetadata")) == {"tenant": {"name": "acme"}}
    assert orjson.loads(event.get_extension("executionresult")) == {
        "success": False,
        "status": "failed",
        "error": {"type": "CardDeclined", "message": "no funds", "retryable": False},
        "metadata": {"attempt": 2, "execution_time_ms": 12.5},
    }


def test_an_event_outside_of_any_step_has_no_attributes_of_one() -> None:
    metadata = make_metadata(task_uuid=None, step_uuid=None, step_name=None, correlation_id="c-1")

    event = parsed(CLOUDEVENTS.to_message(make_event(metadata=metadata)))

    assert event.get_source() == "/payments"
    assert event.get_extension("partitionkey") == "c-1"
    assert (
        not {"subject", "taskuuid", "stepuuid", "stepname", "traceparent", "errortype", "moremetadata"}
        & event.get_attributes().keys()
    )


@given(EVENTS)
def test_the_library_accepts_any_event_and_hands_it_on_whole(event: DomainEvent) -> None:
    forwarded = to_structured_event(parsed(CLOUDEVENTS.to_message(event, TRACEPARENT))).body

    # The library writes floats and great integers as Python's json does, and reads them back the same.
    assert CLOUDEVENTS.from_message(orjson.loads(forwarded)) == event


@given(EVENTS)
def test_the_library_can_bring_any_event_over_http_in_binary_mode(event: DomainEvent) -> None:
    sent = to_binary_event(parsed(CLOUDEVENTS.to_message(event, TRACEPARENT)))

    assert all(value.isascii() and value.isprintable() for value in sent.headers.values())
    assert sent.headers["ce-id"] == event.event_id


@given(EVENTS)
def test_every_attribute_of_any_event_is_as_the_specification_wants_it(event: DomainEvent) -> None:
    message = orjson.loads(CLOUDEVENTS.to_message(event, TRACEPARENT))
    del message["data"]

    for name, value in message.items():
        assert re.fullmatch("[a-z0-9]{1,20}", name)
        assert is_valid(value), (name, value)
    source = urlsplit(message["source"])
    assert re.fullmatch(r"[A-Za-z0-9_.~%/-]+", message["source"])
    assert (source.scheme, source.netloc, source.query, source.fragment) == ("", "", "", "")
    step = event.metadata.step_name
    assert [unquote(part) for part in source.path.split("/")[1:]] == [event.metadata.namespace, *([] if step is None else [step])]


def is_valid(value: Any) -> bool:
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -(2**31) <= value < 2**31
    return isinstance(value, str) and value != "" and not any(is_banned(character) for character in value)


def is_banned(character: str) -> bool:
    code = ord(character)
    return unicodedata.category(character) in ("Cc", "Cs") or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
