"""How a consumer learns of new events: by notifications where PGMQ's notify is on, else by looking again and again."""

from __future__ import annotations

import threading

import psycopg
import pytest
from consuming import Running, event, send
from worker_process import wait_until

from celery_tasker_events.consumer import Consumer

#: Seconds between two looks: longer than any test waits, so what is seen was told.
NEVER = 3600.0


def notify(dsn: str, throttle_ms: int = 0) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("select pgmq.enable_notify_insert('payments_domain_events', %s)", [throttle_ms])


def listeners(dsn: str) -> int:
    """How many connections listen."""
    with psycopg.connect(dsn) as connection:
        query = "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen %%'"
        return connection.execute(query, []).fetchone()[0]


@pytest.fixture
def handled(dsn):
    """A consumer's counts, after it has handled what was there when it started."""
    send(dsn, [event(0)])

    def make(**options: object) -> Consumer:
        consumer = Consumer(dsn, "payments", **options)
        consumer.on("*")(lambda event: None)
        return consumer

    return make


def count(consumer: Consumer) -> int:
    return consumer.statistics()["handled"]


@pytest.mark.parametrize("throttle", [0, 300])
def test_a_notification_wakes_it_and_what_the_throttle_keeps_back_is_found_too(dsn, handled, throttle):
    notify(dsn, throttle)
    consumer = handled(poll_interval=NEVER)

    with Running(consumer):
        wait_until(lambda: count(consumer) == 1, "what was there is handled")
        wait_until(lambda: listeners(dsn) == 1, "it listens")
        # With a throttle, only the first of these is told of.
        for number in range(1, 4):
            send(dsn, [event(number)])
        wait_until(lambda: count(consumer) == 4, "all are handled")


def test_a_retry_that_is_due_needs_no_notification(dsn):
    send(dsn, [event(1)])
    notify(dsn)
    consumer, attempts = Consumer(dsn, "payments", poll_interval=NEVER, backoff=lambda attempt: 1), []

    @consumer.on("*", with_delivery=True)
    def handle(event, delivery):
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            raise RuntimeError

    with Running(consumer):
        wait_until(lambda: attempts == [1, 2], "it is tried again")


def test_without_notifications_it_looks_at_intervals(dsn, handled):
    consumer = handled(poll_interval=0.05)

    with Running(consumer):
        wait_until(lambda: count(consumer) == 1, "what was there is handled")
        send(dsn, [event(1)])
        wait_until(lambda: count(consumer) == 2, "it is found")
        assert listeners(dsn) == 0


def test_it_may_be_told_not_to_listen(dsn, handled):
    notify(dsn)
    consumer = handled(poll_interval=0.05, listen=False)

    with Running(consumer):
        wait_until(lambda: count(consumer) == 1, "what was there is handled")
        send(dsn, [event(1)])
        wait_until(lambda: count(consumer) == 2, "it is found")
        assert listeners(dsn) == 0


def test_a_listening_connection_that_is_cut_is_made_again(dsn, handled):
    notify(dsn)
    consumer = handled(poll_interval=NEVER)

    with Running(consumer):
        wait_until(lambda: listeners(dsn) == 1, "it listens")
        with psycopg.connect(dsn) as connection:
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen %'")
        wait_until(lambda: listeners(dsn) == 1, "it listens again")
        send(dsn, [event(1)])
        wait_until(lambda: count(consumer) == 2, "it is told of the event")


def test_with_several_queues_it_listens_only_if_all_of_them_notify(dsn, handled):
    notify(dsn)
    send(dsn, [event(1, namespace="audit")])
    consumer, handled_both = Consumer(dsn, "payments", "audit", poll_interval=0.05), threading.Event()
    consumer.on("*")(lambda event: event.payload == 2 and handled_both.set())

    with Running(consumer):
        send(dsn, [event(2, namespace="audit")])
        wait_until(handled_both.is_set, "the queue that does not notify is looked at")
        assert listeners(dsn) == 0
