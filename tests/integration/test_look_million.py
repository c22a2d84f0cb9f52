"""Looking at a long queue reads no more of it than it must: Postgres' own counters say how many rows were read."""

from __future__ import annotations

import json

import click.testing
import psycopg
import pytest
from pages import blocks
from psycopg.conninfo import make_conninfo
from sending import event
from worker_process import wait_until

from celery_tasker_events import envelope
from celery_tasker_events.cli.main import main
from celery_tasker_events.consumer import scanning
from celery_tasker_events.consumer.looking import connect_to_look, find_queues, trace
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import create_queues

#: Seconds to fill it on a slow machine decide how long it is; what is measured here does not depend on it.
LENGTH = 200_000
QUEUE = "payments_domain_events"
TABLE = f"pgmq.q_{QUEUE}"

# An event a second, the last one now, each with an id of its own time; three of them make a workflow.
FILL = f"""
insert into {TABLE} (enqueued_at, vt, message, headers)
select at, at, %(template)s::jsonb || jsonb_build_object(
    'event_id', overlay(overlay(%(event_id)s placing left(hex, 8) from 1 for 8) placing right(hex, 4) from 10 for 4),
    'metadata', (%(template)s::jsonb->'metadata') || jsonb_build_object('correlation_id', 'order-' || number / 3)
), '{{}}'
from generate_series(1, {LENGTH}) as number,
     lateral (select now() - ({LENGTH} - number) * interval '1 second' as at) as moment,
     lateral (select lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') as hex) as hex
order by number
"""
EVENT_ID = "00000000-0000-7abc-8def-123456789abc"


@pytest.fixture(scope="module")
def long_queue(new_database) -> str:
    dsn = new_database()
    template = envelope.by_name("native").to_message(event(payload={"amount": 99.99})).decode()
    with connect(dsn) as connection:
        create_queues(connection, [QUEUE])
        connection.execute(FILL, {"template": template, "event_id": EVENT_ID})
        connection.execute(f"vacuum analyze {TABLE}")
    return dsn


def rows_read(dsn: str) -> tuple[int, int]:
    """How many rows of the queue were read in sequence, and by way of an index, since it was made."""
    with psycopg.connect(dsn) as connection:
        query = "select seq_tup_read, coalesce(idx_tup_fetch, 0) from pg_stat_user_tables where relid = %s::regclass"
        row = connection.execute(query, [TABLE]).fetchone()
        assert row is not None
        return row


class Looked:
    """What one command printed, and how many rows it made the server read."""

    def __init__(self, dsn: str, *arguments: str) -> None:
        # The counters come when a connection ends: wait for those of a marked one.
        self._dsn = dsn
        in_sequence, by_index = self._settled()
        self.result = click.testing.CliRunner().invoke(main, [arguments[0], "--dsn", dsn, *arguments[1:]])
        in_sequence_after, by_index_after = self._settled()
        self.in_sequence, self.by_index = in_sequence_after - in_sequence, by_index_after - by_index

    def _settled(self) -> tuple[int, int]:
        gone = "select count(*) from pg_stat_activity where application_name = 'celery-tasker-events'"
        with psycopg.connect(make_conninfo(self._dsn, application_name="counting"), autocommit=True) as connection:
            wait_until(lambda: connection.execute(gone).fetchone() == (0,), "the connections of the command end")
        return rows_read(self._dsn)


def test_the_counters_tell_what_was_read(long_queue):
    before = rows_read(long_queue)
    with connect(long_queue) as connection:
        connection.execute(f"select max(message->>'event_name') from {TABLE}")

    wait_until(lambda: rows_read(long_queue)[0] - before[0] == LENGTH, "a sequential scan is counted")


def test_the_state_of_a_queue_is_counted_up_to_a_limit_and_estimated_beyond(long_queue):
    looked = Looked(long_queue, "queues", "--format", "json")

    [state] = json.loads(looked.result.stdout)
    assert state["estimated"] == ["length"]
    assert LENGTH * 0.9 < state["length"] < LENGTH * 1.1
    assert (state["total"], state["invisible"]) == (LENGTH, 0)
    assert looked.in_sequence <= 100_001
    assert looked.by_index <= 100_001 + 2


def test_the_last_events_are_found_from_the_end(long_queue):
    looked = Looked(long_queue, "tail", "payments")

    assert len(looked.result.stdout.splitlines()) == 10
    assert looked.in_sequence == 0
    assert looked.by_index <= 3 * scanning.CHUNK


def test_an_event_is_found_by_the_time_in_its_id(long_queue):
    with psycopg.connect(long_queue) as connection:
        [(event_id,)] = connection.execute(f"select message->>'event_id' from {TABLE} where msg_id = {LENGTH // 3}")

    looked = Looked(long_queue, "show", event_id)

    assert f"place           {QUEUE}, message {LENGTH // 3}\n" in looked.result.stdout
    assert looked.in_sequence == 0
    # The binary search, and ten seconds of events, twice: for the border of the chunk and for the chunk itself.
    assert looked.by_index < 200


def test_a_story_since_a_moment_reads_only_what_came_after(long_queue):
    looked = Looked(long_queue, "trace", f"order-{(LENGTH - 3) // 3}", "--since", "1h", "--format", "json")

    assert len(json.loads(looked.result.stdout)["events"]) == 3
    assert looked.in_sequence == 0
    # An hour and ten minutes of events.
    assert looked.by_index < 3 * 4300


def chunks_read(dsn: str) -> list[tuple[str, int, int]]:
    """Trace a workflow; return the progress that was told."""
    steps: list[tuple[str, int, int]] = []
    with connect_to_look(dsn) as connection:
        entries = trace(connection, find_queues(connection), "order-7", progress=lambda *step: steps.append(step))
    assert [entry.msg_id for entry in entries] == [21, 22, 23]
    return steps


def test_a_story_without_an_index_is_filtered_by_the_server_in_chunks(long_queue):
    assert chunks_read(long_queue) == [(QUEUE, done, LENGTH) for done in range(scanning.CHUNK, LENGTH + 1, scanning.CHUNK)]


@pytest.fixture
def documented_index(long_queue):
    with connect(long_queue) as connection:
        for statement in blocks("how-to/look-at-events.md")["index.sql"].split(";"):
            if statement.strip():
                connection.execute(statement)
    yield
    with connect(long_queue) as connection:
        connection.execute("drop index pgmq.q_payments_correlation_id")


def test_a_story_with_the_documented_index_reads_only_its_events(long_queue, documented_index):
    looked = Looked(long_queue, "trace", "order-7", "--format", "json")

    assert [entry["msg_id"] for entry in json.loads(looked.result.stdout)["events"]] == [21, 22, 23]
    assert looked.in_sequence == 0
    assert looked.by_index < 50
    assert chunks_read(long_queue) == []
