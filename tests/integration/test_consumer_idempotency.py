"""With an idempotency store a handler sees an event once, however many messages bring it."""

from __future__ import annotations

import threading

import psycopg
import pytest
from consuming import Running, event, rows, send
from queues import messages
from worker_process import wait_until

from celery_tasker_events.consumer import Consumer, IdempotencyStore, MemoryStore, PostgresStore


@pytest.fixture(params=["memory", "postgres", "another database"])
def store(request, new_database) -> IdempotencyStore:
    """Every store must show the same."""
    if request.param == "memory":
        return MemoryStore()
    return PostgresStore() if request.param == "postgres" else PostgresStore(new_database())


def at_once(_attempt: int) -> int:
    return 0


@pytest.mark.parametrize("ordered", [True, False])
def test_an_event_that_was_published_twice_is_seen_once(dsn, store, ordered):
    send(dsn, [event(1), event(1), event(2), event(1)])
    consumer, seen = Consumer(dsn, "payments", store=store, ordered=ordered), []
    consumer.on("*")(lambda event: seen.append(event.payload))

    consumer.run(until_empty=True)
    send(dsn, [event(2)])
    consumer.run(until_empty=True)

    assert seen == [1, 2]
    assert messages(dsn, "payments") == []
    assert consumer.statistics()["duplicates"] == 3


def test_a_handler_that_has_seen_it_does_not_see_it_again_when_another_fails(dsn, store):
    send(dsn, [event(1)])
    consumer, seen = Consumer(dsn, "payments", store=store, backoff=at_once), []

    @consumer.on("*")
    def first(event):
        seen.append("first")

    @consumer.on("*", with_delivery=True)
    def second(event, delivery):
        seen.append("second")
        if delivery.attempt < 3:
            raise RuntimeError

    consumer.run(until_empty=True)

    assert seen == ["first", "second", "second", "second"]


def test_after_a_dead_letter_another_message_of_the_event_may_be_handled(dsn, store):
    send(dsn, [event(1)])
    consumer, seen = Consumer(dsn, "payments", store=store, max_attempts=1), []

    @consumer.on("*")
    def handle(event):
        seen.append(event.payload)
        if len(seen) == 1:
            raise RuntimeError

    consumer.run(until_empty=True)
    send(dsn, [event(1)])
    consumer.run(until_empty=True)

    assert seen == [1, 1]
    assert consumer.statistics()["handled"] == 1


def test_two_messages_of_one_event_are_not_handled_at_the_same_time(dsn, store):
    send(dsn, [event(1), event(1)])
    consumer = Consumer(dsn, "payments", store=store, ordered=False, concurrency=2)
    running, release, seen = threading.Event(), threading.Event(), []

    @consumer.on("*")
    def handle(event):
        seen.append(event.payload)
        running.set()
        release.wait(60)

    with Running(consumer):
        wait_until(running.is_set, "one is handled")
        wait_until(lambda: consumer.statistics()["given_back"] == 1, "the other has to wait")
        release.set()
        wait_until(lambda: consumer.statistics()["duplicates"] == 1, "then it is known")

    assert seen == [1]


def test_consumers_that_share_a_table_know_the_same_unless_they_have_different_names(dsn):
    seen = []
    for name in ("ledger", "ledger", "mailer"):
        send(dsn, [event(1)])
        consumer = Consumer(dsn, "payments", name=name, store=PostgresStore())
        consumer.on("*", name="handler")(lambda event, name=name: seen.append(name))
        consumer.run(until_empty=True)

    assert seen == ["ledger", "mailer"]


def test_the_mark_and_the_removal_of_the_message_are_one_transaction(dsn):
    send(dsn, [event(1)])
    with psycopg.connect(dsn) as connection:
        # Nothing can be deleted: neither may the event be marked.
        connection.execute("create function refuse() returns trigger language plpgsql as 'begin raise exception $$no$$; end'")
        connection.execute("create trigger no before delete on pgmq.q_payments_domain_events execute function refuse()")
    consumer, handled = Consumer(dsn, "payments", store=PostgresStore()), threading.Event()
    consumer.on("*")(lambda event: handled.set())

    with Running(consumer):
        wait_until(handled.is_set, "it is handled")

    assert consumer.statistics()["unsettled"] == 1
    assert len(messages(dsn, "payments")) == 1
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select done from celery_tasker_events_seen").fetchall() == [(False,)]


def test_what_is_old_is_forgotten(dsn):
    send(dsn, [event(1)])
    consumer = Consumer(dsn, "payments", store=PostgresStore(retention=3600))
    consumer.on("*", name="handler")(lambda event: None)
    consumer.run(until_empty=True)
    with psycopg.connect(dsn) as connection:
        connection.execute("update celery_tasker_events_seen set at = now() - interval '2 hours'")

    send(dsn, [event(2)])
    consumer = Consumer(dsn, "payments", store=PostgresStore(retention=3600))
    consumer.on("*", name="handler")(lambda event: None)
    consumer.run(until_empty=True)

    with psycopg.connect(dsn) as connection:
        assert connection.execute("select key from celery_tasker_events_seen").fetchall() == [("w-2",)]


def test_a_store_that_can_not_be_asked_keeps_the_event_until_it_can(dsn, caplog):
    send(dsn, [event(1)])
    seen = []

    class Unsteady(MemoryStore):
        failures = 2

        def claim(self, claim):
            if self.failures:
                self.failures -= 1
                raise ConnectionError("the store is away")
            return super().claim(claim)

    consumer = Consumer(dsn, "payments", store=Unsteady())
    consumer.on("*", with_delivery=True)(lambda event, delivery: seen.append(delivery.attempt))

    consumer.run(until_empty=True)

    assert seen == [1]
    assert "the idempotency store could not be asked: ConnectionError: the store is away" in caplog.text
    assert rows(dsn, "msg_id") == []
