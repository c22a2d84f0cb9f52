"""A redelivered event reaches each subscriber and each stream once."""

from __future__ import annotations

from typing import Any

import pytest

from celery_tasker_events.event import DomainEvent

from ..making import make_event, make_metadata
from .bench import LONG, Bench, Gate
from .conftest import NewBench


def event(event_id: str, key: str, name: str = "payment.processed", **metadata: Any) -> DomainEvent:
    return make_event(name, event_id=event_id, metadata=make_metadata(idempotency_key=key, **metadata))


@pytest.fixture
def bench(new_bench: NewBench) -> Bench:
    return new_bench(deduplication_size=3)


@pytest.mark.parametrize("again", [event("id-1", "key-1"), event("id-2", "key-1"), event("id-1", "key-2")])
def test_the_same_id_or_key_comes_to_every_subscriber_and_stream_once(bench: Bench, again: DomainEvent) -> None:
    first, second = [], []
    bench.registry.add("*", first.append)
    bench.registry.add("payment.*", second.append)
    streams = [bench.bus.streams.open([pattern], None, None) for pattern in ("*", "payment.*")]
    original = event("id-1", "key-1")

    bench.bus.publish(original)
    bench.bus.publish(again)

    assert bench.bus.drain(LONG)
    assert first == second == [original]
    for stream in streams:
        assert stream.get(timeout=LONG) is original
        with pytest.raises(TimeoutError):
            stream.get(timeout=0)
    assert bench.count("skipped", "duplicate") == 1


@pytest.mark.parametrize(
    "different",
    [event("id-2", "key-2"), event("id-2", "key-1", "payment.failed"), event("id-2", "key-1", namespace="audit")],
    ids=["both", "another event", "another namespace"],
)
def test_a_different_event_is_no_repetition(bench: Bench, different: DomainEvent) -> None:
    got: list[DomainEvent] = []
    bench.registry.add("*", got.append)

    bench.bus.publish(event("id-1", "key-1"))
    bench.bus.publish(different)

    assert bench.bus.drain(LONG)
    assert len(got) == 2
    assert bench.counters.total("skipped") == 0


def test_only_the_latest_are_remembered_and_a_repetition_is_one_of_them(bench: Bench) -> None:
    got: list[str] = []
    bench.registry.add("*", lambda event: got.append(event.event_id))

    for number in (1, 2, 3, 1, 4, 2, 1):
        bench.bus.publish(event(f"id-{number}", f"key-{number}"))

    assert bench.bus.drain(LONG)
    # When 4 came, 2 had been forgotten, and 1 had been repeated.
    assert got == ["id-1", "id-2", "id-3", "id-4", "id-2"]


def test_nothing_is_remembered_at_size_zero(new_bench: NewBench) -> None:
    bench = new_bench(deduplication_size=0)
    got: list[DomainEvent] = []
    bench.registry.add("*", got.append)

    bench.bus.publish(event("id-1", "key-1"))
    bench.bus.publish(event("id-1", "key-1"))

    assert bench.bus.drain(LONG)
    assert len(got) == 2


def test_what_a_full_buffer_has_dropped_is_delivered_when_it_comes_again(new_bench: NewBench, gate: Gate) -> None:
    bench = new_bench(buffer_size=1, deduplication_size=10)
    got: list[str] = []
    bench.registry.add("*", gate)
    bench.registry.add("*", lambda event: got.append(event.event_id))
    stream = bench.bus.streams.open(["*"], 10, None)
    bench.bus.publish(event("id-1", "key-1"))
    assert gate.entered.wait(LONG)
    for number in (2, 3):
        bench.bus.publish(event(f"id-{number}", f"key-{number}"))
    assert bench.count("dropped", "bus buffer full") == 1
    gate.open.set()
    assert bench.bus.drain(LONG)

    bench.bus.publish(event("id-3", "key-3"))

    assert bench.bus.drain(LONG)
    assert got == ["id-1", "id-2", "id-3"]
    bench.bus.close(LONG)
    assert [event.event_id for event in stream] == ["id-1", "id-2", "id-3"]


def test_a_repetition_for_which_there_is_no_room_is_one_all_the_same(new_bench: NewBench, gate: Gate) -> None:
    bench = new_bench(buffer_size=1, deduplication_size=10)
    bench.registry.add("*", gate)
    bench.bus.publish(event("id-1", "key-1"))
    assert gate.entered.wait(LONG)
    bench.bus.publish(event("id-2", "key-2"))

    bench.bus.publish(event("id-1", "key-1"))

    assert bench.count("skipped", "duplicate") == 1
    assert bench.counters.total("dropped") == 0


def test_an_event_that_nobody_wanted_is_delivered_when_it_comes_again(bench: Bench) -> None:
    bench.bus.publish(event("id-1", "key-1"))
    got: list[DomainEvent] = []
    bench.registry.add("*", got.append)

    bench.bus.publish(event("id-1", "key-1"))

    assert bench.bus.drain(LONG)
    assert len(got) == 1
