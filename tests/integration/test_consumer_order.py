"""The events of each workflow come in their order, whatever fails, while workflows go on beside each other."""

from __future__ import annotations

import threading
from collections import defaultdict

import psycopg
import pytest
from consuming import Running, event, send, send_raw
from worker_process import wait_until

from celery_tasker_events import ConfigurationError
from celery_tasker_events.consumer import Consumer, RetryLater
from celery_tasker_events.envelope import by_name


def test_each_workflow_comes_in_order_while_several_are_handled_at_once(dsn):
    send(dsn, [event(number, f"w{number % 7}") for number in range(210)])
    consumer, seen, together = Consumer(dsn, "payments", concurrency=4), defaultdict(list), threading.Barrier(4)

    @consumer.on("*")
    def handle(event):
        if event.payload < 4:
            together.wait(60)  # four workflows are handled at the same time, or this never returns
        seen[event.metadata.task_uuid].append(event.payload)

    consumer.run(until_empty=True)

    assert dict(seen) == {f"w{remainder}": [number for number in range(210) if number % 7 == remainder] for remainder in range(7)}


def test_while_one_event_waits_for_its_next_attempt_its_workflow_waits_and_others_go_on(dsn):
    send(dsn, [event(1, "a"), event(2, "a"), event(3, "b"), event(4, "b"), event(5, "a")])
    consumer, seen, is_mended = Consumer(dsn, "payments", concurrency=2, poll_interval=0.05), [], threading.Event()

    @consumer.on("*")
    def handle(event):
        if event.payload == 1 and not is_mended.is_set():
            raise RetryLater(1)
        seen.append(event.payload)

    with Running(consumer):
        wait_until(lambda: consumer.statistics()["retried"] >= 2 and 4 in seen, "others are handled, and one is tried again")
        assert seen == [3, 4]
        is_mended.set()
        wait_until(lambda: 5 in seen, "the workflow goes on")

    assert seen == [3, 4, 1, 2, 5]


def test_two_consumers_share_a_queue_and_each_workflow_comes_in_order(dsn):
    send(dsn, [event(number, f"w{number % 20}") for number in range(400)])
    seen, both_work = [], threading.Barrier(2)

    def make_consumer():
        consumer, has_waited = Consumer(dsn, "payments"), threading.Event()

        @consumer.on("*")
        def handle(event):
            if not has_waited.is_set():
                has_waited.set()
                both_work.wait(60)
            seen.append((event.metadata.task_uuid, event.payload))

        return consumer

    one, other = make_consumer(), make_consumer()
    with Running(one), Running(other):
        wait_until(lambda: one.statistics()["handled"] + other.statistics()["handled"] == 400, "all is handled")

    assert len(seen) == len(set(seen)) == 400
    by_workflow = defaultdict(list)
    for workflow, number in seen:
        by_workflow[workflow].append(number)
    assert all(numbers == sorted(numbers) for numbers in by_workflow.values())


def test_unordered_consumers_handle_one_workflow_on_several_threads(dsn):
    send(dsn, [event(1), event(2)])
    consumer, together = Consumer(dsn, "payments", concurrency=2, ordered=False), threading.Barrier(2)
    consumer.on("*")(lambda event: together.wait(60))

    consumer.run(until_empty=True)

    assert consumer.statistics()["handled"] == 2


def test_messages_without_a_workflow_come_in_their_order_too(dsn):
    for number in range(20):
        send_raw(dsn, by_name("native").to_message(event(number)).decode())
    consumer, seen = Consumer(dsn, "payments", concurrency=4), []
    consumer.on("*")(lambda event: seen.append(event.payload))

    consumer.run(until_empty=True)

    assert seen == list(range(20))


@pytest.fixture
def older_pgmq(dsn):
    """A database whose PGMQ is as it was before the named function came."""

    def drop(*functions: str) -> str:
        with psycopg.connect(dsn) as connection:
            for function in functions:
                connection.execute(f"drop function pgmq.{function}(text, integer, integer)")
        return dsn

    return drop


def test_with_a_pgmq_that_reads_no_heads_of_groups_the_order_is_the_same(older_pgmq):
    dsn = older_pgmq("read_grouped_head")
    send(dsn, [event(number, f"w{number % 3}") for number in range(30)])
    consumer, seen = Consumer(dsn, "payments", concurrency=3, backoff=lambda attempt: 0), defaultdict(list)

    @consumer.on("*", with_delivery=True)
    def handle(event, delivery):
        if event.payload % 10 == 5 and delivery.attempt == 1:
            raise RuntimeError
        seen[event.payload % 3].append(event.payload)

    consumer.run(until_empty=True)

    assert dict(seen) == {remainder: list(range(remainder, 30, 3)) for remainder in range(3)}


def test_without_grouped_reads_an_ordered_consumer_says_what_to_do_and_an_unordered_one_works(older_pgmq):
    dsn = older_pgmq("read_grouped_head", "read_grouped")
    send(dsn, [event(1)])
    ordered, unordered, seen = Consumer(dsn, "payments"), Consumer(dsn, "payments", ordered=False), []
    for consumer in (ordered, unordered):
        consumer.on("*")(lambda event: seen.append(event.payload))

    with pytest.raises(ConfigurationError, match=r"update PGMQ to 1\.8 or newer, or consume with ordered=False"):
        ordered.run()
    unordered.run(until_empty=True)

    assert seen == [1]
