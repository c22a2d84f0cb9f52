"""Who subscribes to what."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from celery_tasker_events.bus.registry import SubscriberRegistry, shared_subscriptions, subscribe, unsubscribe
from celery_tasker_events.event import DomainEvent

from ..making import make_event
from .bench import LONG, Bench, Gate, exit_code_of_a_forked_child
from .conftest import NewBench


def one(event: DomainEvent) -> None: ...


def other(event: DomainEvent) -> None: ...


class Metrics:
    def count(self, event: DomainEvent) -> None: ...


def handlers(registry: SubscriberRegistry, name: str) -> list[object]:
    return [subscription.handler for subscription in registry.matching(name)]


def test_subscribers_are_found_in_the_order_in_which_they_came() -> None:
    registry = SubscriberRegistry()
    registry.add("payment.*", other)
    registry.add("*", one)
    registry.add("order.*", one)

    assert handlers(registry, "payment.failed") == [other, one]


def test_the_same_subscription_twice_counts_once() -> None:
    registry = SubscriberRegistry()
    registry.add("payment.*", one)
    registry.add("payment.*", one)
    registry.add("*", one)

    assert handlers(registry, "payment.failed") == [one, one]
    assert handlers(registry, "order.placed") == [one]


def test_a_removed_subscriber_gets_nothing_by_any_of_its_patterns() -> None:
    registry = SubscriberRegistry()
    registry.add("payment.*", one)
    registry.add("*", one)
    registry.add("*", other)

    registry.remove(one)

    assert handlers(registry, "payment.failed") == [other]


def test_a_bound_method_is_the_same_subscriber_at_every_look_up() -> None:
    registry, metrics, others = SubscriberRegistry(), Metrics(), Metrics()
    registry.add("*", metrics.count)
    registry.add("*", metrics.count)
    registry.add("*", others.count)

    assert handlers(registry, "a.b") == [metrics.count, others.count]
    registry.remove(metrics.count)
    assert handlers(registry, "a.b") == [others.count]


def test_a_parents_subscriptions_come_first_and_stay_its_own() -> None:
    parent = SubscriberRegistry()
    child = SubscriberRegistry(parent)
    child.add("*", one)
    parent.add("*", other)

    assert handlers(child, "a.b") == [other, one]
    assert handlers(parent, "a.b") == [other]


def test_a_bad_pattern_or_handler_is_told_at_once() -> None:
    registry = SubscriberRegistry()

    with pytest.raises(ValueError, match="bad pattern 'payment'"):
        registry.add("payment", one)
    with pytest.raises(TypeError, match="a subscriber is a function"):
        registry.add("*", "one")
    assert registry.all() == ()


def test_subscribe_serves_every_app_and_returns_the_function() -> None:
    decorated = subscribe("payment.*")(one)

    assert decorated is one
    assert one in handlers(SubscriberRegistry(shared_subscriptions), "payment.failed")


def test_a_subscriber_is_named_by_its_module_and_function() -> None:
    registry = SubscriberRegistry()
    registry.add("*", Metrics().count)

    [subscription] = registry.all()

    assert subscription.name == f"{__name__}.Metrics.count"


def test_a_shared_subscriber_can_be_unsubscribed() -> None:
    registry = SubscriberRegistry(shared_subscriptions)
    subscribe("payment.*")(one)
    assert handlers(registry, "payment.failed") == [one]

    assert unsubscribe(one) is True

    assert handlers(registry, "payment.failed") == []
    assert unsubscribe(one) is False


def test_a_partial_is_named_by_its_function_and_an_object_by_its_class() -> None:
    registry = SubscriberRegistry()
    registry.add("*", functools.partial(functools.partial(one)))
    registry.add("*", Gate())

    assert [s.name for s in registry.all()] == [f"{__name__}.one", f"{Gate.__module__}.Gate"]


def test_subscribers_without_a_hash_are_welcome() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        def __call__(self, event: DomainEvent) -> None: ...

    registry = SubscriberRegistry()
    registry.add("*", Equal())

    assert len(registry.matching("a.b")) == 1
    assert registry.statistics()[0].received == 0


# What is known about a name is known until somebody comes or goes.


def test_whoever_comes_or_goes_between_two_events_counts_at_once() -> None:
    registry = SubscriberRegistry(parent := SubscriberRegistry())
    assert handlers(registry, "a.b") == []
    registry.add("*", one)
    assert handlers(registry, "a.b") == [one]
    parent.add("a.*", other)
    assert handlers(registry, "a.b") == [other, one]
    registry.remove(one)
    assert handlers(registry, "a.b") == [other]
    parent.remove(other)
    assert handlers(registry, "a.b") == []


def test_patterns_are_compared_once_per_event_name(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = SubscriberRegistry()
    registry.add("payment.*", one)
    [subscription] = registry.all()
    compared: list[str] = []
    [pattern] = subscription.patterns
    monkeypatch.setattr(type(pattern), "matches", lambda _, name: compared.append(name) or True)

    for name in ("payment.failed", "payment.failed", "payment.processed", "payment.failed"):
        registry.matching(name)

    assert compared == ["payment.failed", "payment.processed"]


def test_any_number_of_names_takes_a_bounded_memory() -> None:
    registry = SubscriberRegistry()
    registry.add("*", one)

    for number in range(5000):
        assert handlers(registry, f"a.n{number}") == [one]

    assert len(registry._found._known.by_name) <= 1000


# Starting and stopping


def test_a_stopped_registry_gives_its_subscribers_nothing_until_it_is_started(bench: Bench) -> None:
    got: list[Any] = []
    bench.registry.add("*", lambda event: got.append(event.payload))
    stream = bench.bus.streams.open(["*"], None, None)

    for payload, change in (("a", None), ("b", bench.registry.stop_all), ("c", bench.registry.start_all)):
        if change is not None:
            change()
        bench.bus.publish(make_event(payload=payload))
        assert bench.bus.drain(LONG)

    assert got == ["a", "c"]
    assert bench.registry.running
    assert set(bench.counters.snapshot().values()) == {2}
    assert [stream.get(timeout=0).payload for _ in range(3)] == ["a", "b", "c"]


def test_what_is_published_while_subscribers_are_stopped_is_not_kept_for_them(bench: Bench, gate: Gate) -> None:
    got: list[Any] = []
    bench.registry.add("payment.processed", gate)
    bench.registry.add("order.*", lambda event: got.append(event.payload))
    bench.bus.publish(make_event())
    assert gate.entered.wait(LONG)

    bench.registry.stop_all()
    bench.bus.publish(make_event("order.placed", payload="while stopped"))
    bench.registry.start_all()
    bench.bus.publish(make_event("order.placed", payload="started again"))
    gate.open.set()

    assert bench.bus.drain(LONG)
    assert got == ["started again"]


@pytest.mark.parametrize("by", ["stopping", "unsubscribing"])
def test_what_waits_for_a_subscriber_is_not_delivered_once_it_is_stopped_or_gone(bench: Bench, gate: Gate, by: str) -> None:
    got: list[DomainEvent] = []
    bench.registry.add("*", gate)
    bench.registry.add("*", got.append)
    bench.bus.publish(make_event())
    assert gate.entered.wait(LONG)

    if by == "stopping":
        bench.registry.stop_all()
    else:
        bench.registry.remove(got.append)
    gate.open.set()

    assert bench.bus.drain(LONG)
    assert got == []
    assert bench.count("skipped", "unsubscribed") == 1


# Statistics


def test_statistics_tell_how_each_subscriber_fares(new_bench: NewBench, gate: Gate) -> None:
    bench = new_bench(timeout=0.2)

    def fail(event: DomainEvent) -> None:
        raise ValueError

    bench.registry.add("payment.*", one)
    bench.registry.add("*", fail)
    bench.registry.add("payment.processed", gate)
    bench.registry.add("order.*", other)

    bench.bus.publish(make_event())
    assert bench.bus.drain(LONG)
    bench.bus.publish(make_event("payment.failed"))
    assert bench.bus.drain(LONG)

    handled, failed, timed_out, idle = bench.registry.statistics()
    assert (handled.name, handled.patterns) == (f"{__name__}.one", ("payment.*",))
    assert (handled.received, handled.handled, handled.failed, handled.timed_out) == (2, 2, 0, 0)
    assert (failed.received, failed.handled, failed.failed, failed.timed_out) == (2, 0, 2, 0)
    assert (timed_out.received, timed_out.handled, timed_out.failed, timed_out.timed_out) == (1, 0, 0, 1)
    assert timed_out.total_time_ms >= 200
    assert 0 < handled.total_time_ms < 200
    assert handled.last_event_at is not None
    assert handled.last_event_at.utcoffset() is not None
    assert (idle.received, idle.last_event_at, idle.total_time_ms) == (0, None, 0.0)


def test_a_forked_child_subscribes_and_counts_for_itself() -> None:
    registry = SubscriberRegistry()
    registry.add("*", one)
    registry.book.take_page().tally_of(registry.all()[0]).received += 1

    def in_child() -> int:
        registry.add("*", other)
        return len(registry.all()) * 10 + sum(statistics.received for statistics in registry.statistics())

    with registry._lock:  # as another thread may hold them in the moment of a fork
        assert exit_code_of_a_forked_child(in_child) == 20
    assert registry.statistics()[0].received == 1
