"""A consumer as a plain iterator: an event is settled when the next one is asked for, and else it comes again."""

from __future__ import annotations

import pytest
from consuming import event, rows, send, send_raw
from queues import messages

from celery_tasker_events.consumer import Consumer, MemoryStore


def payloads(dsn: str, *, dead_letters: bool = False) -> list[object]:
    return [message["payload"] for message in messages(dsn, "payments", dead_letters=dead_letters)]


def test_each_event_is_deleted_when_the_next_is_asked_for(dsn):
    send(dsn, [event(number) for number in range(5)])
    consumer, seen = Consumer(dsn, "payments"), []

    for each in consumer:
        seen.append(each.payload)
        if each.payload == 4:
            consumer.stop()

    assert seen == [0, 1, 2, 3, 4]
    assert payloads(dsn) == []


def test_the_event_at_which_the_loop_is_left_is_visible_again_and_so_are_those_after_it(dsn):
    send(dsn, [event(number, f"w{number}") for number in range(20)])
    consumer = Consumer(dsn, "payments")

    for each in consumer:
        if each.payload == 9:
            break

    assert payloads(dsn) == list(range(9, 20))
    assert rows(dsn, "vt <= clock_timestamp()") == [True] * 11


def test_the_event_at_which_the_loop_raises_is_visible_again(dsn):
    send(dsn, [event(1), event(2)])

    def loop() -> None:
        with Consumer(dsn, "payments") as consumer:
            for each in consumer:
                if each.payload == 2:
                    raise RuntimeError

    with pytest.raises(RuntimeError):
        loop()

    assert payloads(dsn) == [2]
    assert rows(dsn, "vt <= clock_timestamp()") == [True]
    assert [each.payload for each in take(Consumer(dsn, "payments"), 1)] == [2]


def take(consumer: Consumer, count: int) -> list[object]:
    taken = []
    for each in consumer:
        taken.append(each)
        if len(taken) == count:
            consumer.stop()
    return taken


def test_what_is_no_event_becomes_a_dead_letter_and_the_loop_goes_on(dsn):
    send_raw(dsn, "[]")
    send(dsn, [event(1)])
    consumer = Consumer(dsn, "payments")

    assert [each.payload for each in take(consumer, 1)] == [1]

    (letter,) = messages(dsn, "payments", dead_letters=True)
    assert letter["message_text"] == "[]"


def test_deliveries_tell_of_the_message_and_can_end_when_the_queue_is_empty(dsn):
    send(dsn, [event(1), event(2)])
    consumer = Consumer(dsn, "payments", on_success="archive")

    told = [(each.event.payload, each.attempt, each.queue) for each in consumer.deliveries(until_empty=True)]

    assert told == [(1, 1, "payments_domain_events"), (2, 1, "payments_domain_events")]
    assert rows(dsn, "message->>'payload'", table="a") == ["1", "2"]


def test_with_a_store_the_loop_sees_an_event_once(dsn):
    send(dsn, [event(1), event(1), event(2)])
    consumer = Consumer(dsn, "payments", store=MemoryStore())

    assert [each.event.payload for each in consumer.deliveries(until_empty=True)] == [1, 2]
    assert consumer.statistics()["duplicates"] == 1


def test_an_event_that_was_read_again_and_again_and_never_settled_becomes_a_dead_letter(dsn):
    send(dsn, [event(1), event(2)])
    consumer = Consumer(dsn, "payments", max_attempts=2)

    for _ in range(4):
        for each in consumer:
            assert each.payload == 1
            break

    assert [each.event.payload for each in consumer.deliveries(until_empty=True)] == [2]
    (letter,) = messages(dsn, "payments", dead_letters=True)
    assert letter["failed_stage"] == "attempts"
    assert letter["attempts"] == 5
