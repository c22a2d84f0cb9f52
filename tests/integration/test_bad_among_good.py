"""One bad event never takes its batch down: many bad ones of every kind among good ones of several queues, in a real Postgres."""

from __future__ import annotations

import threading

import orjson
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from queues import messages

from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.pool import make_pool
from celery_tasker_events.durable.writer import DurableWriter
from celery_tasker_events.telemetry.counters import Counters

NAMESPACES = ("payments", "orders", "audit")

#: Bodies that jsonb, or Postgres' JSON parser, refuses; some of them can't come from this package, but a writer takes any.
BAD = {
    "nul": rb'{"number":%d,"text":"\u0000"}',
    "nul in a key": rb'{"number":%d,"\u0000":1}',
    "lone surrogate": rb'{"number":%d,"text":"\ud800"}',
    "surrogates in the wrong order": rb'{"number":%d,"text":"\udc00\ud800"}',
    "too many digits for numeric": b'{"number":%d,"n":1e200000}',
    "no number": b'{"number":%d,"n":NaN}',
    "half a message": b'{"number":%d,"n":',
}


def message(number: int, body: bytes = b'{"number":%d,"text":"fine"}') -> DurableMessage:
    namespace = NAMESPACES[number % len(NAMESPACES)]
    fields = {"event_name": "payment.processed", "event_id": str(number), "namespace": namespace}
    return DurableMessage(f"{namespace}_domain_events", body % number, b'{"x-pgmq-group":"g"}', fields)


def numbers(dsn: str) -> dict[str, list[int]]:
    return {namespace: [stored["number"] for stored in messages(dsn, namespace)] for namespace in NAMESPACES}


def parked(dsn: str) -> dict[str, list[str]]:
    return {namespace: [letter["event_id"] for letter in messages(dsn, namespace, dead_letters=True)] for namespace in NAMESPACES}


class HeldPool:
    """A pool that gives connections only when it is let go, so that everything that is sent before makes one batch."""

    def __init__(self, dsn: str) -> None:
        self._pool = make_pool(dsn)
        self.open = threading.Event()

    def getconn(self):
        assert self.open.wait(60)
        return self._pool.getconn()

    def putconn(self, connection):
        self._pool.putconn(connection)

    def close(self, timeout):
        self._pool.close(timeout=timeout)


@pytest.fixture
def send(request):
    """Sends messages as one batch after the first, waits until all are settled, and returns the counters."""
    writers = []

    def run(dsn: str, batch: list[DurableMessage]) -> Counters:
        counters, pool = Counters(), HeldPool(dsn)
        writer = DurableWriter(lambda: pool, 10_000, counters, log_dropped=True)
        writers.append(writer)
        for item in batch:
            writer.send(item)
        pool.open.set()
        assert writer.drain(60)
        return counters

    yield run
    for writer in writers:
        writer.close(5)


def test_bad_ones_of_every_kind_are_parked_and_all_good_ones_published_in_order(dsn, send):
    kinds = list(BAD.values())
    bad = {number: kinds[number % len(kinds)] for number in range(1, 300, 7)} | {
        number: kinds[number % 7] for number in range(50, 60)
    }

    counters = send(dsn, [message(number, bad[number]) if number in bad else message(number) for number in range(300)])

    assert numbers(dsn) == {
        namespace: [n for n in range(300) if n % 3 == index and n not in bad] for index, namespace in enumerate(NAMESPACES)
    }
    assert parked(dsn) == {
        namespace: [str(n) for n in sorted(bad) if n % 3 == index] for index, namespace in enumerate(NAMESPACES)
    }
    assert counters.total("published") == 300 - len(bad)
    assert counters.total("dead_lettered") == counters.total("failed") == len(bad)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_one_is_kept_whole_with_the_reason(dsn, send, kind):
    send(dsn, [message(0), message(3, BAD[kind]), message(6)])

    assert numbers(dsn)["payments"] == [0, 6]
    [letter] = messages(dsn, "payments", dead_letters=True)
    assert letter["message_text"].encode() == BAD[kind] % 3
    assert orjson.loads(letter["headers_text"]) == {"x-pgmq-group": "g"}
    assert (letter["failed_stage"], letter["kept"], letter["size_bytes"]) == ("postgres", "message", len(BAD[kind] % 3))
    assert letter["error"]["error"]


def test_a_batch_of_bad_ones_only_is_parked(dsn, send):
    send(dsn, [message(number, BAD["nul"]) for number in range(50)])

    assert sum(map(len, numbers(dsn).values())) == 0
    assert sum(map(len, parked(dsn).values())) == 50


def test_one_that_is_too_deep_for_the_server_is_parked_and_not_tried_for_ever(new_database, postgres, send):
    dsn = new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"alter database {conninfo_to_dict(dsn)['dbname']} set max_stack_depth = '100kB'")
    deep = b'{"number":%d,"deep":' + b"[" * 5000 + b"]" * 5000 + b"}"

    send(dsn, [message(0), message(3, deep), message(6)])

    assert numbers(dsn)["payments"] == [0, 6]
    [letter] = messages(dsn, "payments", dead_letters=True)
    assert letter["error"]["error_type"] == "StatementTooComplex"
