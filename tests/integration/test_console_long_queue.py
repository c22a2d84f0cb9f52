"""The console reads no more of a long queue than it must: Postgres' own counters say how many rows were read."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import psycopg
import pytest
from long_queue import LENGTH, fill, settled

from celery_tasker_events.console.charts import charts_of
from celery_tasker_events.console.feed import RECENT
from celery_tasker_events.console.filtering import Wanted
from celery_tasker_events.console.looks import DEPTH, SHOWN, Looks, SearchTooLong
from celery_tasker_events.consumer.following import LOOK_BACK, Follower
from celery_tasker_events.consumer.looking import COUNTED_EXACTLY, connect_to_look, find_queues
from celery_tasker_events.consumer.sampling import Sampler
from celery_tasker_events.consumer.scanning import CHUNK
from celery_tasker_events.durable.dead_letters import DeadLetter


@pytest.fixture(scope="module")
def long_queue(new_database) -> str:
    dsn = new_database()
    fill(dsn)
    return dsn


def rows_of(dsn: str, look: Callable[[], object]) -> tuple[int, int]:
    """How many rows a look reads in sequence, and by way of an index."""
    before = settled(dsn)
    look()
    after = settled(dsn)
    return after[0] - before[0], after[1] - before[1]


def test_the_first_page_reads_the_end_of_a_queue(long_queue):
    looks, found = Looks(long_queue), []

    in_sequence, by_index = rows_of(long_queue, lambda: found.append(looks.last(Wanted.of({}))))

    assert [entry.msg_id for entry in found[0].entries] == list(range(LENGTH, LENGTH - SHOWN, -1))
    assert in_sequence == 0
    assert by_index <= DEPTH + SHOWN + 10


@pytest.mark.parametrize("query", [{"event": "never.published"}, {"correlation_id": "order-1"}, {"outcome": "failed"}])
def test_a_filter_that_nothing_meets_does_not_read_the_whole_queue(long_queue, query):
    looks, found = Looks(long_queue), []

    in_sequence, by_index = rows_of(long_queue, lambda: found.append(looks.last(Wanted.of(query))))

    assert found[0].entries == []
    assert in_sequence == 0
    assert by_index <= 2 * DEPTH + 10


def test_the_stream_begins_at_the_end_of_a_queue(long_queue):
    def begin() -> None:
        with connect_to_look(long_queue) as connection:
            [queue] = find_queues(connection)
            follower = Follower(queue)
            assert len(follower.begin(connection, RECENT)) == RECENT
            assert follower.poll(connection) == []

    in_sequence, by_index = rows_of(long_queue, begin)

    assert in_sequence == 0
    assert by_index <= CHUNK + LOOK_BACK + RECENT + 10


def test_a_point_of_the_charts_counts_up_to_a_limit_and_takes_an_estimate_beyond(long_queue):
    samples = []

    def sample() -> None:
        with connect_to_look(long_queue) as connection:
            samples.append(Sampler().sample(connection))

    in_sequence, by_index = rows_of(long_queue, sample)

    assert in_sequence <= COUNTED_EXACTLY + 1
    assert by_index <= COUNTED_EXACTLY + 10
    [queue] = samples[0].queues
    assert not queue.state.length.exact
    assert LENGTH * 0.9 < queue.state.length.number < LENGTH * 1.1
    assert queue.last is not None
    assert queue.last.msg_id == LENGTH
    assert charts_of(samples)[0].charts[0].now.endswith("k")


def test_one_message_is_read_by_its_id(long_queue):
    looks, found = Looks(long_queue), []

    in_sequence, by_index = rows_of(long_queue, lambda: found.extend(looks.message("payments_domain_events", LENGTH // 2)))

    assert [entry.msg_id for entry in found] == [LENGTH // 2]
    assert in_sequence == 0
    assert by_index < 10


def test_a_search_for_a_workflow_is_given_up_in_time(long_queue, monkeypatch):
    monkeypatch.setattr("celery_tasker_events.console.looks.PATIENCE", 0.0)

    with pytest.raises(SearchTooLong, match="given up after 0 s, in payments_domain_events"):
        Looks(long_queue).story("order-7", None)


def test_what_the_pages_look_with_can_not_write(long_queue):
    looks = Looks(long_queue)

    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), looks.dead_letters() as letters:
        letters.delete(DeadLetter("payments_domain_events", 1, datetime.datetime.now(), {}))
    with looks.connection() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction), connection.transaction():
        connection.execute("select pgmq.delete('payments_domain_events', 1::bigint)")
