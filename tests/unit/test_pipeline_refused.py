"""Events that can't be published as they are: parked with the reason, and their neighbours are not touched."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from celery_tasker_events.publisher import StepResult
from celery_tasker_events.telemetry.log import logger

from .making import Boom, hooked, make_bound, make_outcome, raising
from .pipeline_bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


# What can't be published as it is


def test_a_payload_that_can_not_be_serialised_is_parked_with_its_repr(bench: Bench) -> None:
    bench.publish(make_outcome({"socket": 1j}), make_bound(delivery_mode="broadcast"))

    [letter] = bench.durable.dead_letters
    assert letter["failed_stage"] == "snapshot"
    assert letter["error"]["error_type"] == "NotSerialisable"
    assert letter["payload_text"] == "\"{'socket': 1j}\""
    assert bench.bus.events == []
    assert bench.count("failed", "payment.processed", "snapshot") == 1


def test_a_transformed_payload_that_can_not_be_serialised_is_parked(bench: Bench) -> None:
    bench.publish(make_outcome(), make_bound(publisher=hooked(transform_payload=lambda self, *_: 1j)))

    [letter] = bench.durable.dead_letters
    assert (letter["failed_stage"], letter["payload_text"]) == ("serialise", '"1j"')


def test_additional_metadata_that_can_not_be_serialised_costs_the_event(bench: Bench) -> None:
    bench.publish(make_outcome(), make_bound(publisher=hooked(additional_metadata=lambda self, *_: {"socket": 1j})))

    [letter] = bench.durable.dead_letters
    assert letter["failed_stage"] == "additional_metadata"


AMOUNT = {"type": "object", "required": ["amount"]}


def test_a_payload_that_matches_its_schema_is_published(bench: Bench) -> None:
    bench.publish(make_outcome({"amount": 1}), make_bound(schema=AMOUNT))

    assert len(bench.durable.published) == 1


def test_a_payload_that_violates_its_schema_is_parked_with_place_and_rule(bench: Bench) -> None:
    bench.publish(make_outcome({"total": 1}), make_bound(schema=AMOUNT, delivery_mode="broadcast"), make_bound("a.next"))

    [letter] = bench.durable.dead_letters
    assert letter["failed_stage"] == "schema"
    assert letter["error"] == {"error": "payload: 'amount' is a required property", "error_type": "SchemaViolation"}
    assert letter["payload_text"] == '{"total":1}'
    assert bench.bus.events == []
    assert [message["event_name"] for message in bench.durable.published] == ["a.next"]


def test_the_schema_is_about_the_transformed_payload(bench: Bench) -> None:
    publisher = hooked(transform_payload=lambda self, *_: {"amount": 1})

    bench.publish(make_outcome("anything"), make_bound(schema=AMOUNT, publisher=publisher))

    assert [message["payload"] for message in bench.durable.published] == [{"amount": 1}]


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the package logs, kept from the handlers of pytest, which fail where logging itself would print a complaint."""
    lines: list[str] = []
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [handler := logging.Handler()])
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    return lines


@pytest.mark.usefixtures("log_lines")
@pytest.mark.parametrize("text", ["nul \0 byte", "\ud800 surrogate"], ids=["nul", "surrogate"])
def test_a_dead_letter_holds_nothing_that_postgres_would_refuse(bench: Bench, text: str) -> None:
    bench.publish(make_outcome(), make_bound(publisher=hooked(before_publish=raising(Boom(text)))))

    [message] = [message for message in bench.durable.messages if message.is_dead_letter]
    assert b"\\u0000" not in message.body.replace(b"\\\\u0000", b"")
    assert b"Boom" in message.body


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError


SPEECHLESS_ERRORS = pytest.mark.parametrize("error", [Speechless(), Boom("\ud800")], ids=["without str()", "surrogate"])


@pytest.mark.usefixtures("log_lines")
@SPEECHLESS_ERRORS
def test_an_error_that_can_not_be_printed_costs_its_own_event_only(bench: Bench, error: Exception) -> None:
    bench.publish(make_outcome(), make_bound(publisher=hooked(should_publish=raising(error))), make_bound("a.next"))

    assert [message["event_name"] for message in bench.durable.published] == ["a.next"]
    assert len(bench.durable.dead_letters) == 1


@SPEECHLESS_ERRORS
def test_an_error_that_can_not_be_printed_is_logged_all_the_same(bench: Bench, error: Exception, log_lines: list[str]) -> None:
    bench.publish(make_outcome(), make_bound(publisher=hooked(should_publish=raising(error))))

    [line] = log_lines
    assert type(error).__name__ in line.encode("utf-8").decode()


def test_metadata_hooks_may_return_any_mapping(bench: Bench) -> None:
    class Tenant(Mapping[str, str]):
        def __getitem__(self, key: str) -> str:
            return {"tenant": "acme"}[key]

        def __iter__(self) -> Any:
            return iter(["tenant"])

        def __len__(self) -> int:
            return 1

    bench.publish(make_outcome(), make_bound(publisher=hooked(additional_metadata=lambda self, *_: Tenant())))

    assert bench.durable.published[0]["metadata"]["tenant"] == "acme"


def test_a_result_that_a_hook_changes_in_place_has_the_same_form_on_both_paths(bench: Bench) -> None:
    def transform_payload(self: Any, result: StepResult, *_: Any) -> Any:
        result.result["tags"] = {"b", "a"}
        return result.result

    bench.publish(make_outcome({}), make_bound(publisher=hooked(transform_payload=transform_payload), delivery_mode="broadcast"))

    assert bench.bus.events[0].payload == bench.durable.published[0]["payload"] == {"tags": ["a", "b"]}


def test_metadata_hooks_may_return_none(bench: Bench) -> None:
    bench.publish(make_outcome(), make_bound(publisher=hooked(additional_metadata=lambda self, *_: None)))

    assert len(bench.durable.published) == 1
