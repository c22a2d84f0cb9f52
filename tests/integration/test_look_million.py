"""Looking at a long queue reads no more of it than it must: Postgres' own counters say how many rows were read."""

from __future__ import annotations

import json

import click.testing
import psycopg
import pytest
from long_queue import LENGTH, QUEUE, TABLE, fill, rows_read, settled
from pages import blocks
from worker_process import wait_until

from celery_tasker_events.cli.main import main
from celery_tasker_events.consumer import scanning
from celery_tasker_events.consumer.looking import connect_to_look, find_queues, trace
from celery_tasker_events.durable.pool import connect


@pytest.fixture(scope="module")
def long_queue(new_database) -> str:
    dsn = new_database()
    fill(dsn)
    return dsn


class Looked:
    """What one command printed, and how many rows it made the server read."""

    def __init__(self, dsn: str, *arguments: str) -> None:
        in_sequence, by_index = settled(dsn)
        self.result = click.testing.CliRunner().invoke(main, [arguments[0], "--dsn", dsn, *arguments[1:]])
        in_sequence_after, by_index_after = settled(dsn)
        self.in_sequence, self.by_index = in_sequence_after - in_sequence, by_index_after - by_index


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
