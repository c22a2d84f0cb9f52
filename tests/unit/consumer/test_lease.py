"""Leases: what is held, until when, and how a loss shows."""

from __future__ import annotations

import datetime

from celery_tasker_events.consumer.delivery import Message
from celery_tasker_events.consumer.lease import Leases


def message(number: int, *, read_count: int = 1, queue: str = "q") -> Message:
    return Message(queue, number, read_count, datetime.datetime.now(datetime.timezone.utc), "{}", None)


def test_a_message_is_held_until_its_lease_ends():
    leases = Leases(30)
    leases.add([message(1)], asked_at=100.0)

    assert leases.holds(message(1), 129.9)
    assert not leases.holds(message(1), 130.0)
    assert not leases.holds(message(2), 100.0)


def test_extensions_are_due_after_a_third_and_move_the_end():
    leases = Leases(30)
    assert leases.next_extension() is None
    leases.add([message(1), message(2, queue="other")], asked_at=100.0)
    assert leases.next_extension() == 110.0

    leases.extended(112.0)
    assert leases.by_queue() == {"q": [1], "other": [2]}
    assert leases.extend("q", [1], {1: 1}, 112.0) == []

    assert leases.next_extension() == 122.0
    assert leases.holds(message(1), 141.0)
    assert not leases.holds(message(2, queue="other"), 141.0)


def test_who_was_read_by_another_consumer_or_removed_is_lost():
    leases = Leases(30)
    leases.add([message(1), message(2), message(3)], asked_at=100.0)

    lost = leases.extend("q", [1, 2, 3], {1: 1, 2: 2}, 110.0)

    assert [each.message_id for each in lost] == [2, 3]
    assert not leases.holds(message(2), 110.0)
    assert leases.by_queue() == {"q": [1]}
    assert len(leases) == 3  # they are still being handled


def test_what_was_not_extended_in_time_is_lost_once_and_never_extended_again():
    leases = Leases(30)
    leases.add([message(1)], asked_at=100.0)

    assert leases.expire(129.0) == []
    assert leases.expire(131.0) == [message(1)] or len(leases) == 1
    assert leases.expire(132.0) == []
    assert leases.by_queue() == {}


def test_a_message_that_comes_again_while_it_is_handled_is_held_again_and_not_handed_out_twice():
    leases = Leases(30)
    (first,) = leases.add([message(1)], asked_at=100.0)
    leases.expire(200.0)

    assert leases.add([message(1, read_count=2)], asked_at=200.0) == []

    assert leases.holds(first, 229.0)
    assert leases.extend("q", [1], {1: 2}, 210.0) == []


def test_what_is_settled_is_forgotten():
    leases = Leases(30)
    leases.add([message(1)], asked_at=100.0)

    leases.end([message(1)])

    assert len(leases) == 0
    assert leases.extend("q", [1], {}, 110.0) == []
