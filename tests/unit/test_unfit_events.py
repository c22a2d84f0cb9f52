"""Events that the durable path can't take as they are: too large, too deep, with an endless error. Their letters are bounded."""

from __future__ import annotations

import logging
from typing import Any

import orjson
import pytest

from celery_tasker_events.envelope import by_name
from celery_tasker_events.errors import SchemaViolation
from celery_tasker_events.outcome import Snapshot
from celery_tasker_events.pipeline import Pipeline, Publication
from celery_tasker_events.publisher import BasePublisher
from celery_tasker_events.record import Record
from celery_tasker_events.router import Router
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import MAX_ERROR_LENGTH

from .making import RecordingBus, RecordingDurable, make_bound, make_outcome

LIMIT = 10_000


class Bench:
    def __init__(self, limit: int = LIMIT) -> None:
        self.bus, self.durable, self.counters = RecordingBus(), RecordingDurable(), Counters()
        router = Router(self.bus, self.durable, by_name("native"), self.counters, limit)
        self.pipeline = Pipeline(router, self.durable, self.counters, max_event_bytes=limit)

    def publish(self, result: Any, **fields: Any) -> None:
        self.pipeline.publish(
            Publication(make_outcome(result), (make_bound(**fields), make_bound("a.next", delivery_mode="fast")))
        )

    @property
    def letter(self) -> Any:
        [letter] = self.durable.dead_letters
        return letter


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_event_of_the_limits_size_is_published_and_one_byte_more_is_not() -> None:
    bench = Bench()
    bench.publish("x" * 1000)
    size = len(bench.durable.messages[0].body)
    fits, larger = Bench(size), Bench(size)

    fits.publish("x" * 1000)
    larger.publish("x" * 1001)

    assert [message["payload"] for message in fits.durable.published] == ["x" * 1000]
    assert larger.durable.published == []
    assert larger.letter["error"]["error_type"] == "EventTooLarge"
    assert f"the event is {size + 1} bytes long, and tasker_events_max_event_bytes is {size}" in larger.letter["error"]["error"]


@pytest.mark.parametrize("result", ["x" * LIMIT, nested(254)], ids=["too large", "too deep"])
@pytest.mark.parametrize(("mode", "on_bus"), [("broadcast", True), ("durable", False)])
def test_the_fast_half_of_a_broadcast_is_delivered_though_the_durable_one_is_refused(
    bench: Bench, mode: str, result: Any, *, on_bus: bool
) -> None:
    bench.publish(result, delivery_mode=mode)

    assert [event.payload for event in bench.bus.events if event.event_name != "a.next"] == [result] * on_bus
    assert [event.event_name for event in bench.bus.events][-1] == "a.next"
    assert bench.letter["failed_stage"] == ("size" if isinstance(result, str) else "route")
    assert bench.counters.total("failed") == 1
    if on_bus:
        assert bench.letter["event_id"] == bench.bus.events[0].event_id


def test_a_fast_event_may_have_any_size(bench: Bench) -> None:
    bench.publish("x" * LIMIT, delivery_mode="fast")

    assert bench.bus.events[0].payload == "x" * LIMIT
    assert bench.durable.messages == []


def test_of_a_payload_that_is_too_large_the_beginning_is_kept_in_whole_characters(bench: Bench) -> None:
    text = "1" + "é" * LIMIT

    bench.publish(text)

    kept = bench.letter["payload_text"]
    assert kept == '"' + text[: len(kept) - 1]
    assert LIMIT - 2 <= len(kept.encode()) <= LIMIT
    assert (bench.letter["size_bytes"], bench.letter["kept"]) == (2 * LIMIT + 3, "text")


@pytest.mark.parametrize("result", ["x" * 1_000_000, '"' * 1_000_000, "\0" * 1_000_000, {"\\" * 9: ['"'] * 200_000}])
def test_a_letter_is_at_most_some_times_as_large_as_an_event_may_be(bench: Bench, result: Any) -> None:
    bench.publish(result)

    assert len(bench.durable.messages[0].body) < 4 * LIMIT + 5000


def test_the_error_of_a_letter_and_of_a_log_line_is_bounded(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    bench.publish("x" * 100_000, schema={"type": "object"})

    assert len(bench.letter["error"]["error"]) < MAX_ERROR_LENGTH + 50
    assert bench.letter["error"]["error"].endswith("characters)")
    assert all(len(record.getMessage()) < MAX_ERROR_LENGTH + 500 for record in caplog.records)
    assert bench.letter["error"]["error_type"] == SchemaViolation.__name__


class Growing(BasePublisher):
    def transform_payload(self, step_result: Any, declaration: Any, context: Any) -> Any:
        return "x" * LIMIT


def test_where_the_outcome_is_small_enough_it_is_kept_though_the_payload_is_not(bench: Bench) -> None:
    bench.publish({"amount": 1}, publisher=Growing())

    assert bench.letter["kept"] == "outcome"
    assert Record.of(bench.letter["outcome_text"]).outcome == make_outcome({"amount": 1})


def test_a_text_that_fits_is_kept_whole(bench: Bench) -> None:
    bench.publish({"total": "é"}, schema={"type": "array"})

    assert bench.letter["payload_text"] == Snapshot.of({"total": "é"}).json.decode()
    assert bench.letter["size_bytes"] == len(bench.letter["payload_text"].encode())


@pytest.mark.parametrize("text", [b"1e400", b"}{", b"NaN", b'"\xff"', b"[" * 1100 + b"]" * 1100])
@pytest.mark.parametrize("wrap", [lambda fragment: fragment, lambda fragment: {1: fragment}], ids=["alone", "below an int key"])
def test_what_only_claims_to_be_json_becomes_a_dead_letter(bench: Bench, text: bytes, wrap: Any) -> None:
    bench.publish(wrap(orjson.Fragment(text)), delivery_mode="broadcast")

    assert bench.bus.events == bench.durable.published == []
    assert bench.letter["failed_stage"] == "snapshot"
    assert bench.counters.total("failed") == 2


def test_an_id_without_a_json_form_costs_the_durable_half_only(bench: Bench) -> None:
    outcome = make_outcome({"amount": 1})._replace(correlation_id="\ud800")

    bench.pipeline.publish(Publication(outcome, (make_bound(delivery_mode="broadcast"),)))

    assert [event.payload for event in bench.bus.events] == [{"amount": 1}]
    assert (bench.letter["failed_stage"], bench.letter["correlation_id"], bench.letter["kept"]) == ("route", "\\ud800", "text")
