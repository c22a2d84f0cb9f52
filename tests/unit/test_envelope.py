"""What every envelope does alike: there and back without loss, its headers, and being told from the others."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sending import message_of

import celery_tasker_events
from celery_tasker_events import envelope, values
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.envelope import Envelope
from celery_tasker_events.envelope.base import timestamp
from celery_tasker_events.errors import NotSerialisable
from celery_tasker_events.event import DomainEvent, ExecutionResult, new_event_id

from .making import CARD_DECLINED, make_bound, make_event, make_metadata
from .wire import EVENTS

FAILED = make_event(
    payload={"reason": "no funds"},
    metadata=make_metadata(extra={"tenant": "acme"}),
    execution_result=ExecutionResult(False, "failed", CARD_DECLINED, {"execution_time_ms": 12.4, "attempt": 2}),
)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

ZONES = [datetime.timezone.utc, datetime.timezone(datetime.timedelta(hours=5, minutes=30, seconds=15)), ZoneInfo("Europe/London")]

all_envelopes = pytest.mark.parametrize("wire", [envelope.by_name(name) for name in envelope.NAMES], ids=envelope.NAMES)


def sent(wire: Envelope, event: DomainEvent) -> Any:
    """The message as a client reads it from the queue."""
    return orjson.loads(wire.to_message(event))


def resolve_pointer(document: Any, pointer: str) -> Any:
    for part in pointer.removeprefix("/").split("/"):
        document = document[part]
    return document


def test_these_are_the_envelopes() -> None:
    assert envelope.NAMES == ("cloudevents", "native", "tasker")


@all_envelopes
@given(event=EVENTS)
def test_any_event_comes_back_from_its_message_as_it_was(wire: Envelope, event: DomainEvent) -> None:
    assert wire.from_message(sent(wire, event)) == event


@all_envelopes
@given(event=EVENTS)
def test_any_message_is_recognised_by_its_own_envelope_alone_and_can_be_read(wire: Envelope, event: DomainEvent) -> None:
    message = sent(wire, event)

    assert [name for name in envelope.NAMES if envelope.by_name(name).recognises(message)] == [wire.name]
    assert envelope.recognise(message) is wire
    assert envelope.read(message) == event


@all_envelopes
@pytest.mark.parametrize("draft", [jsonschema.Draft4Validator, jsonschema.Draft7Validator, jsonschema.Draft202012Validator])
@given(event=EVENTS)
def test_any_message_is_valid_by_the_schema_of_its_envelope(wire: Envelope, draft: Any, event: DomainEvent) -> None:
    message = sent(wire, event)
    schema = wire.json_schema(event.event_name, event.event_version, event.metadata.namespace, {})

    draft.check_schema(schema)
    draft(schema).validate(message)


@all_envelopes
def test_the_schema_of_an_envelope_is_that_of_one_event_and_its_payload(wire: Envelope) -> None:
    message = sent(wire, FAILED)
    name, version, namespace = FAILED.event_name, FAILED.event_version, FAILED.metadata.namespace
    payload = {"required": ["reason"], "properties": {"reason": {"enum": ["no funds"]}}}
    right = wire.json_schema(name, version, namespace, payload)
    others = [
        wire.json_schema("other.event", version, namespace, payload),
        wire.json_schema(name, "2.0", namespace, payload),
        wire.json_schema(name, version, "other", payload),
        wire.json_schema(name, version, namespace, {"required": ["other"]}),
    ]

    assert [jsonschema.Draft7Validator(schema).is_valid(message) for schema in (right, *others)] == [True] + 4 * [False]


@all_envelopes
def test_an_envelope_knows_where_its_messages_have_the_correlation_id(wire: Envelope) -> None:
    assert resolve_pointer(sent(wire, FAILED), wire.correlation_id) == FAILED.metadata.correlation_id


@all_envelopes
@pytest.mark.parametrize("inner", [envelope.by_name(name) for name in envelope.NAMES], ids=envelope.NAMES)
def test_a_payload_that_looks_like_a_message_deceives_nobody(wire: Envelope, inner: Envelope) -> None:
    message = sent(inner, FAILED)

    for payload in (message, message.get("payload"), {"payload": message}):
        event = make_event(payload=payload)
        assert envelope.read(sent(wire, event)) == event
        assert sum(envelope.by_name(name).recognises(sent(wire, event)) for name in envelope.NAMES) == 1


@all_envelopes
def test_a_trace_context_does_not_change_what_is_read(wire: Envelope) -> None:
    assert envelope.read(orjson.loads(wire.to_message(FAILED, TRACEPARENT))) == FAILED


@all_envelopes
@pytest.mark.parametrize("part", ["payload", "extra"])
def test_what_is_no_json_data_has_no_message(wire: Envelope, part: str) -> None:
    event = make_event(payload=object()) if part == "payload" else make_event(metadata=make_metadata(extra={"a": object()}))

    with pytest.raises(NotSerialisable):
        wire.to_message(event)


#: What a consumer can do without: null where it is missing, or told a second time for filters and for other systems.
DISPENSABLE = {
    "native": set(),
    "tasker": {"payload.task_sequence_step", "payload.execution_result"},
    "cloudevents": {
        *("source", "subject", "datacontenttype", "partitionkey", "data", "moremetadata"),
        *("success", "status", "errortype", "attempt", "taskuuid", "stepuuid", "stepname"),
    },
}


def paths(message: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """All keys of a message down to the second level, which is where all envelopes keep what they can't do without."""
    for key, value in message.items():
        yield prefix + key
        if isinstance(value, dict) and not prefix and key != "data":
            yield from paths(value, f"{key}.")


@all_envelopes
def test_a_message_that_lacks_something_is_not_taken_for_an_event(wire: Envelope) -> None:
    whole = sent(wire, FAILED)
    needed = [path for path in paths(whole) if path not in DISPENSABLE[wire.name]]
    needed = [path for path in needed if path.rpartition(".")[2] not in ("tenant", "reason")]
    assert len(needed) > 8

    for path in needed:
        broken = copy.deepcopy(whole)
        *owners, last = path.split(".")
        owner = broken
        for key in owners:
            owner = owner[key]
        del owner[last]
        with pytest.raises(ValueError, match=r"not a (whole )?domain event"):
            envelope.read(broken)


@all_envelopes
def test_a_part_of_a_wrong_type_is_not_taken_for_an_event(wire: Envelope) -> None:
    message = sent(wire, FAILED)
    owner, key = (message, "time") if wire.name == "cloudevents" else (message["metadata"], "fired_at")

    for value in (None, 5, [], {}, "yesterday"):
        owner[key] = value
        with pytest.raises(ValueError, match="not a whole domain event"):
            envelope.read(message)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"event_id": "1", "event_name": "a.b"},
        {"specversion": "1.0", "id": "1", "source": "/elsewhere", "type": "a.b", "data": {}},
        {"event_id": "1", "payload": {"task_sequence_step": {}}},
        ["no", "object"],
        None,
    ],
    ids=["empty", "half", "another system's CloudEvent", "half of tasker's", "array", "null"],
)
def test_what_is_no_domain_event_is_not_recognised_and_told_apart_clearly(message: Any) -> None:
    assert envelope.recognise(message) is None
    with pytest.raises(ValueError, match=r"not a domain event in any .*cloudevents, native, tasker: (an object|a value)"):
        envelope.read(message)


@all_envelopes
def test_a_dead_letter_is_no_domain_event(wire: Envelope) -> None:
    declaration = make_bound().declaration
    early = DurableMessage.dead_letter(declaration, "payments", "schema", ValueError("bad"), "{}", {"event_id": "1"})
    late = message_of(FAILED, wire).refused(ValueError("bad"))

    assert [envelope.recognise(values.decode(letter.body)) for letter in (early, late)] == [None, None]


@all_envelopes
def test_the_headers_group_a_workflow_and_carry_the_key(wire: Envelope) -> None:
    event = make_event(metadata=make_metadata(task_uuid="root-9", idempotency_key="key-9"))

    assert orjson.loads(wire.headers(event)) == {"idempotency_key": "key-9", "x-pgmq-group": "root-9"}


@all_envelopes
def test_the_headers_carry_the_trace_context_if_there_is_one(wire: Envelope) -> None:
    assert orjson.loads(wire.headers(make_event(), TRACEPARENT))["traceparent"] == TRACEPARENT


@all_envelopes
def test_an_event_outside_of_any_workflow_is_grouped_by_its_correlation_id(wire: Envelope) -> None:
    event = make_event(metadata=make_metadata(task_uuid=None, correlation_id="caller-1"))

    assert orjson.loads(wire.headers(event))["x-pgmq-group"] == "caller-1"


@all_envelopes
def test_a_durable_message_is_in_the_envelope_that_it_is_given(wire: Envelope) -> None:
    message = message_of(FAILED, wire, TRACEPARENT)

    assert message.body == wire.to_message(FAILED, TRACEPARENT)
    assert message.headers == wire.headers(FAILED, TRACEPARENT)


@pytest.mark.parametrize("name", ["native", "tasker"])
def test_extra_metadata_stands_beside_the_standard_fields_and_never_replaces_one(name: str) -> None:
    plain = sent(envelope.by_name(name), make_event())
    extra = {"tenant": "acme", "namespace": "forged", "step_uuid": "forged"}

    forged = sent(envelope.by_name(name), make_event(metadata=make_metadata(extra=extra)))

    assert forged == {**plain, "metadata": {**plain["metadata"], "tenant": "acme"}}


def test_a_new_envelope_is_one_new_file(tmp_path: Path) -> None:
    package = tmp_path / "celery_tasker_events"
    shutil.copytree(Path(celery_tasker_events.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "envelope" / "newcomer.py").write_text(
        "from celery_tasker_events.envelope.base import Envelope\n"
        "class Newcomer(Envelope):\n"
        "    name = 'newcomer'\n"
        "    to_message = from_message = recognises = json_schema = lambda self, *_: b'news'\n"
    )
    program = (
        "from celery_tasker_events import envelope, settings\n"
        "chosen = settings.Settings.from_conf({'tasker_events_envelope': 'newcomer'}).envelope\n"
        "print(envelope.by_name(chosen).to_message(None))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.stdout == "b'news'\n", done.stderr


@given(moment=st.datetimes(timezones=st.sampled_from(ZONES)), microsecond=st.sampled_from([None, 0, 1, 100_000]))
def test_a_timestamp_is_what_isoformat_says_with_a_z_for_utc(moment: datetime.datetime, microsecond: int | None) -> None:
    if microsecond is not None:
        moment = moment.replace(microsecond=microsecond)

    assert timestamp(moment) == moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def test_event_ids_are_version_7_and_in_order_of_time() -> None:
    ids = [new_event_id() for _ in range(200)]

    assert {event_id[14] for event_id in ids} == {"7"}
    assert ids == sorted(set(ids))


def test_all_fields_of_an_event_are_known_to_the_strategies() -> None:
    # A new field that no strategy fills would travel untested.
    assert {field.name for field in dataclasses.fields(DomainEvent)} == {
        *("event_id", "event_name", "payload", "metadata", "execution_result", "event_version")
    }
