"""Log records as JSON: the fields, what has no JSON form, and whose records a worker's handlers write so."""

from __future__ import annotations

import datetime
import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from celery_tasker_events.telemetry.json_log import JsonFormatter, write_as_json
from celery_tasker_events.telemetry.log import logger as our_logger


def record(message: str = "told %s", *args: object, name: str = "shop", extra: dict[str, Any] | None = None) -> logging.LogRecord:
    return logging.getLogger(name).makeRecord(name, logging.WARNING, "f.py", 1, message, args or ("this",), None, extra=extra)


def lines_of(formatted: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in formatted.split("\n")]


def test_a_record_is_one_object_with_the_standard_and_the_extra_fields() -> None:
    given = record(extra={"event_id": "1", "message_id": 7, "task_uuid": None})

    [line] = lines_of(JsonFormatter("tasker-worker").format(given))

    assert datetime.datetime.fromisoformat(line.pop("timestamp").replace("Z", "+00:00")).timestamp() == pytest.approx(
        given.created, abs=1e-5
    )
    assert line == {
        "level": "WARNING",
        "logger": "shop",
        "message": "told this",
        "process": os.getpid(),
        "thread": "MainThread",
        "service_name": "tasker-worker",
        "event_id": "1",
        "message_id": 7,
        "task_uuid": None,
    }


def test_the_time_is_utc_in_rfc_3339() -> None:
    given = record()
    given.created = 1764583200.123456

    [line] = lines_of(JsonFormatter().format(given))

    assert line["timestamp"] == "2025-12-01T10:00:00.123456Z"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "shop"}, "shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.name=shop"}, "shop"),
        ({"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other"}, "shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b"}, None),
    ],
)
def test_the_service_is_named_as_opentelemetry_names_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str | None
) -> None:
    for variable in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    [line] = lines_of(JsonFormatter().format(record()))

    assert line.get("service_name") == name


def test_line_breaks_and_exceptions_stay_in_their_line() -> None:
    given = record("two\nlines of %s", extra={"text": "a\nb"})
    try:
        raise ValueError("no\nluck")
    except ValueError:
        given.exc_info = sys.exc_info()
    given.stack_info = "Stack:\n  here"

    [line] = lines_of(JsonFormatter().format(given))

    assert (line["message"], line["text"], line["stack_info"]) == ("two\nlines of this", "a\nb", "Stack:\n  here")
    assert line["exc_info"].startswith("Traceback ")
    assert line["exc_info"].endswith("ValueError: no\nluck")


def test_an_exception_that_another_handler_formatted_first_is_kept() -> None:
    given = record()
    given.exc_text = "Traceback: ..."

    [line] = lines_of(JsonFormatter().format(given))

    assert line["exc_info"] == "Traceback: ..."


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({1, 2}, [1, 2]),
        (datetime.date(2025, 12, 1), "2025-12-01"),
        (2**70, str(2**70)),
        (1j, "1j"),
        ("\ud800", "\\ud800"),
        (Unprintable(), "<Unprintable whose repr() raised RuntimeError>"),
    ],
    ids=["set", "date", "integer", "complex", "surrogate", "unprintable"],
)
def test_no_value_costs_its_line(value: object, written: object) -> None:
    [line] = lines_of(JsonFormatter().format(record(extra={"value": value, "event_id": "1"})))

    assert (line["value"], line["event_id"], line["message"]) == (written, "1", "told this")


def test_a_message_with_a_surrogate_is_written() -> None:
    [line] = lines_of(JsonFormatter().format(record("half \ud800 of %s")))

    assert line["message"] == "half \\ud800 of this"


@pytest.mark.parametrize(
    ("message", "args", "written"),
    [("%d of them", ("many",), "%d of them ('many',)"), ("%s", (Unprintable(),), "%s <tuple whose repr() raised RuntimeError>")],
    ids=["other type", "unprintable"],
)
def test_a_message_that_its_arguments_do_not_fit_is_written_with_them(message: str, args: tuple[object], written: str) -> None:
    [line] = lines_of(JsonFormatter().format(record(message, *args, extra={"event_id": "1"})))

    assert (line["message"], line["event_id"]) == (written, "1")


def test_an_extra_field_replaces_no_standard_one() -> None:
    [line] = lines_of(JsonFormatter().format(record(extra={"level": "forged", "logger": "forged"})))

    assert (line["level"], line["logger"]) == ("WARNING", "shop")


# Which records a process writes as JSON


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The root logger with no other handlers than pytest's, which get their formatters back."""
    root = logging.getLogger()
    formatters = {known: known.formatter for known in root.handlers}
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(our_logger, "handlers", [])
    yield root
    for known, formatter in formatters.items():
        known.setFormatter(formatter)


def handler(stream: io.StringIO, fmt: str = "plain: %(message)s") -> logging.Handler:
    made = logging.StreamHandler(stream)
    made.setFormatter(logging.Formatter(fmt))
    return made


def test_our_records_are_json_and_those_of_others_as_before(root: logging.Logger) -> None:
    stream = io.StringIO()
    root.addHandler(handler(stream))

    write_as_json()
    our_logger.warning("ours", extra={"event_id": "1"})
    logging.getLogger(f"{our_logger.name}.part").warning("a part's")
    logging.getLogger(f"{our_logger.name}_not").warning("a neighbour's")
    logging.getLogger("shop").warning("the shop's")

    first, second, *others = stream.getvalue().splitlines()
    assert (json.loads(first)["message"], json.loads(first)["event_id"]) == ("ours", "1")
    assert json.loads(second)["message"] == "a part's"
    assert others == ["plain: a neighbour's", "plain: the shop's"]


def test_a_handler_without_a_formatter_writes_others_records_as_before(root: logging.Logger) -> None:
    stream = io.StringIO()
    root.addHandler(logging.StreamHandler(stream))

    write_as_json()
    logging.getLogger("shop").warning("the shop's")

    assert stream.getvalue() == "the shop's\n"


def test_asking_twice_changes_nothing_more(root: logging.Logger) -> None:
    root.addHandler(made := handler(io.StringIO()))
    write_as_json()
    formatter = made.formatter

    write_as_json()

    assert made.formatter is formatter


def test_a_handler_of_ones_own_that_writes_json_or_no_text_is_left_alone(root: logging.Logger) -> None:
    json_handler = handler(io.StringIO())
    json_handler.setFormatter(mine := JsonFormatter("mine"))
    sender = logging.Handler()
    root.addHandler(json_handler)
    root.addHandler(sender)

    write_as_json()

    assert json_handler.formatter is mine
    assert sender.formatter is None


def test_handlers_that_our_records_do_not_reach_are_left_alone(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    root.addHandler(unreached := handler(io.StringIO()))
    before = unreached.formatter
    our_logger.addHandler(own := handler(io.StringIO()))
    monkeypatch.setattr(our_logger, "propagate", False)

    write_as_json()

    assert unreached.formatter is before
    assert own.formatter is not None
    assert json.loads(own.formatter.format(record("x %s", name=our_logger.name)))["message"] == "x this"
