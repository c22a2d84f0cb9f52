"""Who subscribes to what."""

from __future__ import annotations

import pytest

from celery_tasker_events.bus.registry import SubscriberRegistry, shared_subscriptions, subscribe
from celery_tasker_events.event import DomainEvent


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
        registry.add("*", "one")  # type: ignore[arg-type]
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
