"""A long replay that is interrupted goes on where it was: nothing is lost, and nothing is sent twice."""

from __future__ import annotations

import signal
import subprocess

import psycopg
import pytest
from program import PROGRAM
from replaying import replay
from sending import event
from worker_process import wait_until

from celery_tasker_events import envelope
from celery_tasker_events.consumer import Consumer
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import create_queues

LENGTH = 100_000
QUEUE = "payments_domain_events"

FILL = f"""
insert into pgmq.a_{QUEUE} (msg_id, enqueued_at, vt, message, headers)
select number, now(), now(), %s::jsonb || jsonb_build_object('event_id', 'e' || number, 'payload', number), '{{}}'
from generate_series(1, {LENGTH}) as number
"""

# All of 100,000 at least take this many seconds: time enough to interrupt it.
SLOWLY = ("--rate", "20000")


@pytest.fixture
def long_archive(dsn):
    template = envelope.by_name("native").to_message(event()).decode()
    with connect(dsn) as connection:
        create_queues(connection, [QUEUE])
        connection.execute(FILL, [template])
        # As if they had been sent: the queue counts on.
        connection.execute(f"select setval('pgmq.q_{QUEUE}_msg_id_seq', {LENGTH})")
    return dsn


def start(dsn, *options):
    arguments = ["replay", "--dsn", dsn, "--yes", *options]
    return subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def progress_of(dsn):
    """Id and progress of the only replay; None before it has begun."""
    with psycopg.connect(dsn) as connection:
        if connection.execute("select to_regclass('celery_tasker_events_replays')").fetchone() == (None,):
            return None
        return connection.execute(
            "select replay_id, done_up_to from celery_tasker_events_replays where done_up_to > 0"
        ).fetchone()


def sent(dsn):
    with psycopg.connect(dsn) as connection:
        return [
            number for (number,) in connection.execute(f"select (message->>'payload')::int from pgmq.q_{QUEUE} order by msg_id")
        ]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_after_an_interruption_the_rest_is_sent_and_nothing_twice(long_archive, how):
    running = start(long_archive, "--all", *SLOWLY)
    replay_id, _ = wait_until(lambda: progress_of(long_archive), "something is sent", 60)
    running.send_signal(how)
    _, told = running.communicate(timeout=60)
    part = sent(long_archive)

    result = replay(long_archive, "--resume", replay_id)

    assert running.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[how]
    assert f"--resume {replay_id}" in told
    assert 0 < len(part) < LENGTH
    assert (result.exit_code, result.stdout) == (0, f"{LENGTH - len(part)} events replayed to the queue\n")
    assert sent(long_archive) == list(range(1, LENGTH + 1))
    assert replay(long_archive, "--resume", replay_id).stdout == "0 events replayed to the queue\n"


def test_of_two_that_resume_the_same_replay_one_ends(long_archive):
    running = start(long_archive, "--all", *SLOWLY)
    replay_id, _ = wait_until(lambda: progress_of(long_archive), "something is sent", 60)

    second = replay(long_archive, "--resume", replay_id)
    _, told = running.communicate(timeout=60)

    assert sorted([running.returncode, second.exit_code]) == [0, 1]
    assert f"another process goes on with replay '{replay_id}'" in told + second.stderr
    assert sent(long_archive) == list(range(1, LENGTH + 1))


def test_what_is_archived_meanwhile_does_not_come_back(long_archive):
    with psycopg.connect(long_archive, autocommit=True) as connection:
        connection.execute(f"delete from pgmq.a_{QUEUE} where msg_id > 3000")
    consumer = Consumer(long_archive, "payments", on_success="archive", ordered=False, concurrency=4)
    consumer.on("*")(lambda event: None)

    running = start(long_archive, "--all", "--rate", "1000")
    wait_until(lambda: progress_of(long_archive), "something is sent", 60)
    while running.poll() is None:
        consumer.run(until_empty=True)

    assert running.communicate()[0] == "3000 events replayed to the queue\n"
