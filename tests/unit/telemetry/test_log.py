"""Log fields, and the limit on repeated warnings."""

from __future__ import annotations

import logging

import pytest

from celery_tasker_events.telemetry import log

from ..making import make_event


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    return now


def test_an_events_log_fields_tell_where_it_belongs() -> None:
    event = make_event()

    assert log.event_fields(event) == {
        "event_id": event.event_id,
        "event_name": "payment.processed",
        "queue_name": "payments_domain_events",
        "task_uuid": "root-1",
        "correlation_id": "root-1",
        "namespace": "payments",
    }


def test_the_fields_of_an_event_clash_with_none_of_the_logging_module() -> None:
    reserved = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}

    fields = {**log.event_fields(make_event()), **log.error_fields(ValueError())}

    assert fields.keys().isdisjoint(reserved)


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_an_error_is_told_by_type_and_message() -> None:
    assert log.error_fields(ValueError("bad")) == {"error": "bad", "error_type": "ValueError"}


def test_an_error_that_can_not_be_printed_is_told_by_its_type() -> None:
    assert log.error_fields(Speechless()) == {
        "error": "<str() of Speechless raised RuntimeError>",
        "error_type": "Speechless",
    }


def test_an_errors_text_can_be_written_by_any_handler() -> None:
    assert log.error_fields(ValueError("\ud800 caf\xe9"))["error"] == "\\ud800 caf\xe9"


def test_the_first_warning_is_told_at_once_and_the_next_ones_together(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    warning = log.RateLimitedWarning("%d dropped", interval=10)

    for _ in range(5):
        warning.add()
    clock[0] += 9.9
    warning.add()
    clock[0] += 0.2
    warning.add()
    clock[0] += 10.1
    warning.add()

    assert [record.getMessage() for record in caplog.records] == ["1 dropped", "6 dropped", "1 dropped"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
