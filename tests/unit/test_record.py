"""An outcome on disk comes back as it was, and each of its events can be found again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from opentelemetry import trace

from celery_tasker_events import values
from celery_tasker_events.durable.spool.spool import SpoolRow
from celery_tasker_events.outcome import OutcomeKind, Snapshot, StepOutcome
from celery_tasker_events.pipeline import Publication
from celery_tasker_events.record import Record, to_rows

from .making import make_bound, make_failure, make_outcome
from .wire import OUTCOMES


def rows_of(publication: Publication) -> list[SpoolRow]:
    return list(to_rows(publication.outcome, publication.events, publication.event_id, publication.idempotency_key))


def saved(publication: Publication) -> list[Record]:
    return [Record.of(row.content) for row in rows_of(publication)]


@pytest.mark.parametrize(
    "outcome",
    [
        make_outcome({"amount": 99.99}),
        make_failure(inputs=Snapshot.of([[1], {"order": 2}])),
        make_outcome(object()),
        make_outcome(kind=OutcomeKind.BY_HAND, task_uuid=None, step_uuid=None, task_name=None, execution_time_ms=None),
        make_outcome(redelivered=True, attempt=3),
    ],
    ids=["success", "failure", "not serialisable", "by hand", "redelivered"],
)
def test_an_outcome_comes_back_as_it_was(outcome: Any) -> None:
    (record,) = saved(Publication(outcome, (make_bound(),)))

    assert record.outcome == outcome


def test_its_span_comes_back() -> None:
    context = trace.SpanContext(0x1234, 0x5678, is_remote=False, trace_flags=trace.TraceFlags(1))

    (record,) = saved(Publication(make_outcome(trace=context), (make_bound(),)))

    found = record.outcome.trace
    assert (found.trace_id, found.span_id, found.trace_flags) == (0x1234, 0x5678, 1)
    assert found.is_remote


def test_each_durable_event_is_a_row_of_its_own() -> None:
    bound = (make_bound("a.b"), make_bound("a.c", delivery_mode="fast"), make_bound("a.d", delivery_mode="broadcast"))

    rows = rows_of(Publication(make_outcome(), bound))

    assert [(row.event_name, row.namespace) for row in rows] == [("a.b", "payments"), ("a.d", "payments")]


def test_an_event_has_the_same_id_however_often_it_is_read() -> None:
    (row,) = rows_of(Publication(make_outcome(), (make_bound(),)))

    assert Record.of(row.content).event_id == Record.of(row.content).event_id


def test_an_id_and_a_key_that_the_caller_was_told_are_kept() -> None:
    (record,) = saved(Publication(make_outcome(), (make_bound(),), "event-1", "key-1"))

    assert (record.event_id, record.idempotency_key) == ("event-1", "key-1")


def test_what_finds_the_event_again() -> None:
    (record,) = saved(Publication(make_failure(), (make_bound("a.b", condition="failure"),)))

    assert record.event == ("shop.process_payment", "a.b", "payments", "process_payment", None, "failure", "durable", False)


def test_a_row_is_json() -> None:
    (row,) = rows_of(Publication(make_outcome({"a": 1}), (make_bound(),)))

    assert isinstance(row, SpoolRow)
    assert values.decode(row.content)["outcome"]["result"]["json"] == '{"a":1}'


@given(OUTCOMES)
def test_any_outcome_comes_back_from_its_text_as_it_was(outcome: StepOutcome) -> None:
    record = Record.of_event(outcome, make_bound(), "event-1", "key-1")

    assert Record.of(record.text() or "") == record


@pytest.mark.parametrize("changes", [{"result": Snapshot.of(1j)}, {"correlation_id": "\ud800"}], ids=["no JSON", "no UTF-8"])
def test_there_is_no_text_of_what_nothing_could_be_published_from(changes: dict[str, Any]) -> None:
    assert Record.of_event(make_outcome()._replace(**changes), make_bound(), "event-1", "key-1").text() is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"outcome": {"kind": "gone"}}'])
def test_what_is_no_record_is_told(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Record.of(text)


def test_an_id_that_is_no_utf_8_costs_no_event() -> None:
    (row,) = rows_of(Publication(make_outcome(correlation_id="half \ud800 of it"), (make_bound(),)))

    assert Record.of(row.content).outcome.correlation_id == "half \\ud800 of it"
