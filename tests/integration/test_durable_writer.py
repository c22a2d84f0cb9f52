"""The writer thread against a real Postgres: batches, one bad message among good ones, missing queues, an outage."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import tracemalloc
from pathlib import Path

import orjson
import pytest
from queues import messages
from worker_process import wait_until

from celery_tasker_events.durable import committing
from celery_tasker_events.durable.committing import Committer
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.pool import make_pool
from celery_tasker_events.durable.writer import DurableWriter
from celery_tasker_events.telemetry.counters import Counters


def message(number: int, *, namespace: str = "payments", text: str = "") -> DurableMessage:
    body = orjson.dumps({"event_name": "payment.processed", "number": number, "text": text})
    fields = {"event_name": "payment.processed", "event_id": str(number), "namespace": namespace}
    return DurableMessage(f"{namespace}_domain_events", body, b'{"x-pgmq-group":"g"}', fields)


def numbers(dsn: str, namespace: str = "payments") -> list[int]:
    return [stored["number"] for stored in messages(dsn, namespace)]


@pytest.fixture
def committer(dsn):
    with contextlib.closing(Committer(lambda: make_pool(dsn), Counters())) as committer:
        yield committer


@pytest.fixture
def make_writer():
    """Makes writers that are closed when the test ends."""
    writers = []

    def make(dsn: str, buffer_size: int = 10_000) -> DurableWriter:
        writer = DurableWriter(lambda: make_pool(dsn), buffer_size, Counters(), log_dropped=True)
        writers.append(writer)
        return writer

    yield make
    for writer in writers:
        writer.close(5)


def test_messages_are_committed_in_the_order_in_which_they_were_sent(dsn, make_writer):
    writer = make_writer(dsn)

    for number in range(2000):
        writer.send(message(number))
    assert writer.drain(30)

    assert numbers(dsn) == list(range(2000))


def test_a_connection_is_kept_while_events_come_and_given_back_when_none_do(dsn, make_writer):
    writer = make_writer(dsn)
    writer.send(message(0))
    assert writer.drain(30)
    pool = writer._committer._pool
    requests = pool.get_stats()["requests_num"]

    for number in range(1, 20):
        writer.send(message(number))
        assert writer.drain(30)

    assert pool.get_stats()["requests_num"] == requests
    assert pool.get_stats()["pool_available"] == 0
    assert writer.watch() is None
    wait_until(lambda: pool.get_stats()["pool_available"] == 1, "it is given back")
    writer.send(message(20))
    assert writer.drain(30)
    assert numbers(dsn) == list(range(21))


def test_a_connection_that_is_kept_for_long_goes_back_although_events_come(dsn, committer, monkeypatch):
    monkeypatch.setattr(committing, "_KEPT_FOR", -1.0)

    committer.commit([message(0)])

    assert committer.rests
    committer.commit([message(1)])
    assert numbers(dsn) == [0, 1]


def test_a_connection_is_not_used_again_after_an_error_in_the_middle_of_a_statement(dsn, committer, monkeypatch):
    used = []

    def fail_in_the_middle(connection, statement, batch):
        used.append(connection)
        connection.pgconn.send_query_params(b"select pg_sleep(0)", [])
        raise ValueError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(committing, "send", fail_in_the_middle)
        committer.commit([message(0)])

    assert used
    assert all(connection.closed for connection in used)
    committer.commit([message(1)])
    assert numbers(dsn) == [1]


def test_one_batch_may_go_to_several_queues(dsn, make_writer):
    writer = make_writer(dsn)

    for number in range(10):
        writer.send(message(number, namespace="payments" if number % 2 else "audit"))
    assert writer.drain(30)

    assert numbers(dsn, "payments") == [1, 3, 5, 7, 9]
    assert numbers(dsn, "audit") == [0, 2, 4, 6, 8]


def test_what_postgres_refuses_is_parked_and_its_neighbours_are_published_in_order(dsn, make_writer, caplog):
    writer = make_writer(dsn)

    for number in range(100):
        writer.send(message(number, text="\0" if number in (13, 14, 77) else "fine"))
    assert writer.drain(30)

    assert numbers(dsn) == [number for number in range(100) if number not in (13, 14, 77)]
    parked = messages(dsn, "payments", dead_letters=True)
    assert [letter["event_id"] for letter in parked] == ["13", "14", "77"]
    assert orjson.loads(parked[0]["message_text"])["text"] == "\0"
    assert "Untranslatable" in parked[0]["error"]["error_type"]
    assert "Postgres refused a domain event" in caplog.text


def test_an_outage_is_told_once_and_the_events_are_published_afterwards(own_postgres, make_writer, caplog):
    caplog.set_level(logging.WARNING, "celery_tasker_events")
    writer = make_writer(own_postgres.dsn)
    writer.send(message(0))
    assert writer.drain(30)

    own_postgres.shut_down("immediate")
    for number in range(1, 50):
        writer.send(message(number))
        if number % 10 == 0:
            wait_until(lambda: "wait in memory" in caplog.text, "the outage is told")
    assert not writer.drain(0.5)
    own_postgres.start_again()
    assert writer.drain(30)

    assert numbers(own_postgres.dsn) == list(range(50))
    told = [record.getMessage() for record in caplog.records if record.name == "celery_tasker_events"]
    assert len(told) == 2, told
    assert told[1] == "Durable domain events are published again"


def test_a_full_buffer_drops_what_comes_last_and_counts_it(make_writer, caplog):
    writer = make_writer("postgresql://postgres@127.0.0.1:1/none", buffer_size=5)

    for number in range(20):
        writer.send(message(number))

    assert 5 <= writer.depth() <= 10
    assert writer._counters.total("dropped") == 20 - writer.depth()
    assert "durable events dropped" in caplog.text
    writer._stopping.set()


def test_what_is_committed_is_not_sent_again_for_an_error_in_telling_of_it(dsn, make_writer, caplog):
    class Failing(logging.Filter):
        def filter(self, record):
            if "published" in record.getMessage():
                raise RuntimeError("this filter is broken")
            return True

    caplog.set_level(logging.INFO, "celery_tasker_events")
    broken = Failing()
    logging.getLogger("celery_tasker_events").addFilter(broken)
    try:
        writer = make_writer(dsn)
        for number in range(20):
            writer.send(message(number))
        assert writer.drain(30)
    finally:
        logging.getLogger("celery_tasker_events").removeFilter(broken)

    assert numbers(dsn) == list(range(20))
    assert messages(dsn, "payments", dead_letters=True) == []
    assert writer._counters.total("published") == 20


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux tells which signals a thread blocks")
def test_no_thread_that_outlives_a_drain_takes_the_signal_that_ends_a_child(dsn, make_writer):
    make_writer(dsn).send(message(1))
    wait_until(lambda: numbers(dsn) == [1], "it is committed")

    ours = [thread for thread in threading.enumerate() if thread.name.startswith("tasker-events-")]

    assert len(ours) > 1
    assert all(signal.SIGTERM in blocked_by(thread) for thread in ours)


def blocked_by(thread: threading.Thread) -> set[int]:
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    [mask] = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk")]
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_what_is_committed_is_kept_no_longer(dsn, committer):
    tracemalloc.start()
    try:
        committer.commit([message(0)])
        before, _ = tracemalloc.get_traced_memory()
        committer.commit([message(1, text="x" * 4_000_000)])
        committer.commit([message(2, text="x" * 1_000_000), message(3, text="x" * 1_000_000)])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 500_000
    assert numbers(dsn) == [0, 1, 2, 3]
