"""A follower gives each event once, in whatever order transactions commit, and takes none."""

from __future__ import annotations

import random
import threading

import psycopg
import pytest
from sending import event, put, send, untouched
from worker_process import wait_until

from celery_tasker_events import envelope
from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.consumer import following
from celery_tasker_events.consumer.following import Follower
from celery_tasker_events.consumer.looking import connect_to_look, find_queues
from celery_tasker_events.consumer.scanning import Filter
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.errors import UnknownQueue

QUEUE = "payments_domain_events"


def text(payload, name="payment.processed"):
    return envelope.by_name("native").to_message(event(name, payload)).decode()


@pytest.fixture
def connection(dsn):
    """A connection to a database with an empty queue."""
    with connect(dsn) as setting_up:
        setting_up.execute("select pgmq.create(%s)", [QUEUE])
    with connect_to_look(dsn) as connection:
        yield connection


@pytest.fixture
def follower(connection):
    return make_follower(connection)


def make_follower(connection, wanted=None):
    [queue] = find_queues(connection, ["payments"])
    return Follower(queue, wanted)


def payloads(entries):
    return [entry.outline.payload for entry in entries]


def test_it_begins_with_the_last_ones_and_goes_on_with_what_is_committed(dsn, connection, follower):
    send(dsn, *(event(payload=number) for number in range(5)))

    assert payloads(follower.begin(connection, 2)) == [3, 4]
    assert payloads(follower.poll(connection)) == []
    send(dsn, event(payload=5), event(payload=6))
    assert payloads(follower.poll(connection)) == [5, 6]
    assert payloads(follower.poll(connection)) == []


def test_an_id_that_was_taken_first_and_committed_last_is_not_missed(dsn, connection, follower):
    follower.begin(connection, 10)
    with psycopg.connect(dsn) as slow, psycopg.connect(dsn) as quick:
        put(slow, QUEUE, text("slow"))
        put(quick, QUEUE, text("quick"))
        quick.commit()
        assert payloads(follower.poll(connection)) == ["quick"]
        for _ in range(5):
            assert follower.poll(connection) == []
        slow.commit()

    assert payloads(follower.poll(connection)) == ["slow"]
    assert follower.poll(connection) == []


def test_an_id_is_not_missed_that_was_taken_before_its_transaction_had_an_id_of_its_own(dsn, connection, follower):
    send(dsn, event(payload="first"))
    follower.begin(connection, 0)
    # As an insert that is interrupted between its two halves, by the scheduler or by a trigger.
    with psycopg.connect(dsn) as slow:
        slow.execute(f"lock table pgmq.q_{QUEUE} in row exclusive mode")
        [(msg_id,)] = slow.execute(f"select nextval('pgmq.q_{QUEUE}_msg_id_seq')")
        assert slow.execute("select pg_current_xact_id_if_assigned()").fetchone() == (None,)
        send(dsn, event(payload="quick"))
        assert payloads(follower.poll(connection)) == ["quick"]
        for _ in range(5):
            assert follower.poll(connection) == []
        insert = f"insert into pgmq.q_{QUEUE} (msg_id, vt, message) overriding system value values (%s, now(), %s)"
        slow.execute(insert, [msg_id, text("slow")])
        slow.commit()

    assert payloads(follower.poll(connection)) == ["slow"]


def test_what_another_transaction_had_open_when_following_began_is_not_missed(dsn, connection, follower):
    with psycopg.connect(dsn) as slow:
        put(slow, QUEUE, text("slow"))
        send(dsn, event(payload="quick"))
        assert payloads(follower.begin(connection, 10)) == ["quick"]
        assert follower.poll(connection) == []
        slow.commit()

    assert payloads(follower.poll(connection)) == ["slow"]


def test_a_gap_is_forgotten_when_all_have_ended_that_could_fill_it(dsn, connection, follower):
    follower.begin(connection, 0)
    with psycopg.connect(dsn) as slow, psycopg.connect(dsn) as quitter:
        put(slow, QUEUE, text("slow"))
        put(quitter, QUEUE, text("never"))
        send(dsn, event(payload="quick"))
        follower.poll(connection)
        quitter.rollback()
        for _ in range(5):
            follower.poll(connection)
        assert follower._gaps.ranges == [(1, 2)]
        slow.commit()

    assert payloads(follower.poll(connection)) == ["slow"]
    # Whoever writes to the queue might fill it.
    wait_until(lambda: follower.poll(connection) == [] and not follower._gaps.ranges, "the gap is forgotten")


def test_many_at_once_are_each_seen_once(dsn, connection, follower, monkeypatch):
    monkeypatch.setattr(following, "BATCH", 7)
    follower.begin(connection, 0)

    def produce(seed):
        chance = random.Random(seed)
        with psycopg.connect(dsn) as producer:
            for number in range(60):
                put(producer, QUEUE, text([seed, number]))
                if chance.random() < 0.3:
                    producer.commit()

    producers = [threading.Thread(target=produce, args=[seed]) for seed in range(4)]
    for producer in producers:
        producer.start()
    seen = []
    while any(producer.is_alive() for producer in producers) or follower.is_behind:
        seen += payloads(follower.poll(connection))
    # What was committed last may need the look after the last one.
    seen += payloads(follower.poll(connection))
    while follower.is_behind:
        seen += payloads(follower.poll(connection))

    assert sorted(seen) == [[seed, number] for seed in range(4) for number in range(60)]


def test_what_a_consumer_archives_between_two_looks_is_seen_in_the_archive(dsn, connection, follower):
    follower.begin(connection, 0)
    send(dsn, event(payload=1), archive=True)
    send(dsn, event(payload=2))

    entries = follower.poll(connection)

    assert [(entry.outline.payload, entry.archived_at is not None) for entry in entries] == [(1, True), (2, False)]
    with connect(dsn) as consumer:
        consumer.execute("select pgmq.archive(%s, 2::bigint)", [QUEUE])
    assert follower.poll(connection) == []


def test_what_a_consumer_deletes_between_two_looks_is_not_seen(dsn, connection, follower):
    follower.begin(connection, 0)
    send(dsn, event(payload=1), event(payload=2))
    with connect(dsn) as consumer:
        consumer.execute("select pgmq.delete(%s, 1::bigint)", [QUEUE])

    assert payloads(follower.poll(connection)) == [2]


def test_a_filter_is_the_servers_and_what_it_leaves_out_is_no_gap(dsn, connection):
    follower = make_follower(connection, Filter(event=Pattern("payment.failed")))
    send(dsn, event("payment.failed", 1), event())
    assert payloads(follower.begin(connection, 10)) == [1]

    send(dsn, event(), event("payment.failed", 2), event())

    assert payloads(follower.poll(connection)) == [2]
    assert follower._gaps.ranges == []


def test_a_backlog_comes_in_batches(dsn, connection, follower, monkeypatch):
    monkeypatch.setattr(following, "BATCH", 3)
    follower.begin(connection, 0)
    send(dsn, *(event(payload=number) for number in range(4)))

    assert payloads(follower.poll(connection)) == [0, 1, 2]
    assert follower.is_behind
    assert payloads(follower.poll(connection)) == [3]
    assert not follower.is_behind


def test_a_queue_that_is_made_anew_is_followed_from_its_first_id(dsn, connection, follower):
    send(dsn, event(payload=1), event(payload=2))
    follower.begin(connection, 0)
    with connect(dsn) as other:
        other.execute("select pgmq.drop_queue(%s)", [QUEUE])
    send(dsn, event(payload=3))

    assert payloads(follower.poll(connection)) == [3]


def test_a_queue_that_is_dropped_ends_it(dsn, connection, follower):
    follower.begin(connection, 0)
    with connect(dsn) as other:
        other.execute("select pgmq.drop_queue(%s)", [QUEUE])

    with pytest.raises(UnknownQueue, match="was dropped"):
        follower.poll(connection)


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_queue_may_be_dropped_in_the_middle_of_a_look(dsn, connection, follower, monkeypatch, comes_back):
    follower.begin(connection, 0)
    position, looks = follower._position, []

    def dropped_after_the_first(connection):
        if comes_back and len(looks) == 1:
            send(dsn, event(payload="anew"))
        told = position(connection)
        if not looks:
            with connect(dsn) as other:
                other.execute("select pgmq.drop_queue(%s)", [QUEUE])
        looks.append(told)
        return told

    monkeypatch.setattr(follower, "_position", dropped_after_the_first)
    if comes_back:
        assert follower.poll(connection) == []
        assert payloads(follower.poll(connection)) == ["anew"]
    else:
        with pytest.raises(UnknownQueue, match="was dropped"):
            follower.poll(connection)


def test_nothing_changes_for_consumers(dsn, connection, follower):
    send(dsn, event())
    before = untouched(dsn)
    follower.begin(connection, 10)
    follower.poll(connection)

    assert untouched(dsn) == before
