"""Consumers as processes of their own: they are stopped, killed, and outlive a lease and an outage of Postgres."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from consuming import Running, event, rows, send
from queues import messages
from worker_process import wait_until

from celery_tasker_events.consumer import Consumer

SCRIPT = Path(__file__).parent / "apps" / "slow_consumer.py"


class Process:
    """``apps/slow_consumer.py``, with what it has printed so far."""

    def __init__(self, output: Path, dsn: str, hang_at: int, options: dict[str, object]) -> None:
        self._output = output
        with output.open("wb") as stdout:
            command = [sys.executable, str(SCRIPT), dsn, str(hang_at), json.dumps(options)]
            self.process = subprocess.Popen(command, stdout=stdout)

    @property
    def lines(self) -> list[str]:
        return self._output.read_text().splitlines()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(dsn: str, *, hang_at: int = -1, **options: object) -> Process:
        started.append(Process(tmp_path / f"consumer-{len(started)}.txt", dsn, hang_at, options))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def test_sigterm_ends_a_consumer_and_what_it_holds_is_free_at_once(dsn, start):
    send(dsn, [event(number, f"w{number}") for number in range(10)])
    consumer = start(dsn)
    wait_until(lambda: len(consumer.lines) == 10, "all is handled")

    consumer.process.send_signal(signal.SIGTERM)

    assert consumer.process.wait(60) == 0
    assert consumer.lines[-1] == "ended"
    assert messages(dsn, "payments") == []


def test_a_second_signal_waits_for_no_handler(dsn, start):
    send(dsn, [event(1), event(2)])
    consumer = start(dsn, hang_at=1, shutdown_timeout=3600)
    wait_until(lambda: consumer.lines == ["1 1"], "the first is handled")

    consumer.process.send_signal(signal.SIGTERM)
    consumer.process.send_signal(signal.SIGINT)

    assert consumer.process.wait(60) == 0
    assert [message["payload"] for message in messages(dsn, "payments")] == [1, 2]


def test_the_events_of_a_killed_consumer_come_again_in_their_order(dsn, start):
    send(dsn, [event(number) for number in range(5)])
    killed = start(dsn, hang_at=2, visibility_timeout=3)
    wait_until(lambda: killed.lines == ["0 1", "1 1", "2 1"], "it hangs at the third")

    killed.process.kill()
    other = start(dsn, visibility_timeout=3, poll_interval=0.1)

    wait_until(lambda: len(other.lines) == 3, "the rest is handled")
    assert other.lines == ["2 2", "3 1", "4 1"]


def test_three_processes_share_a_queue_and_each_event_is_handled_once_and_in_order(dsn, start):
    send(dsn, [event(number, f"w{number % 30}") for number in range(600)])
    consumers = [start(dsn, concurrency=2) for _ in range(3)]

    def lines() -> list[str]:
        return [line for consumer in consumers for line in consumer.lines]

    wait_until(lambda: len(lines()) >= 600, "all is handled")

    assert sorted(lines(), key=lambda line: int(line.split()[0])) == [f"{number} 1" for number in range(600)]


def test_an_event_is_not_delivered_twice_while_its_handler_takes_longer_than_the_visibility_timeout(dsn):
    send(dsn, [event(1), event(2)])
    consumer, other = (Consumer(dsn, "payments", visibility_timeout=3, poll_interval=0.1) for _ in range(2))
    running, release, seen = threading.Event(), threading.Event(), []

    @consumer.on("*")
    def handle(event):
        running.set()
        release.wait(60)
        seen.append(event.payload)

    other.on("*")(lambda event: seen.append(-event.payload))
    with Running(consumer):
        wait_until(running.is_set, "the handler runs")
        (ends,) = rows(dsn, "vt")[:1]
        with Running(other):
            wait_until(lambda: now(dsn) > ends, "the first lease is over", timeout=60)
            assert rows(dsn, "read_ct, vt > clock_timestamp()")[0] == (1, True)
        assert other.statistics()["received"] == 0
        release.set()
        wait_until(lambda: consumer.statistics()["handled"] == 2, "both are handled")

    assert seen == [1, 2]
    assert consumer.statistics()["lost_leases"] == 0


def now(dsn: str) -> object:
    with psycopg.connect(dsn) as connection:
        return connection.execute("select clock_timestamp()").fetchone()[0]


def test_a_lease_that_somebody_else_has_taken_is_noticed(dsn, caplog):
    send(dsn, [event(1)])
    consumer, running, release = Consumer(dsn, "payments", visibility_timeout=3), threading.Event(), threading.Event()

    @consumer.on("*")
    def handle(event):
        running.set()
        release.wait(60)
        raise RuntimeError

    with Running(consumer):
        wait_until(running.is_set, "the handler runs")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("select pgmq.set_vt('payments_domain_events', 1::bigint, 0)")
            connection.execute("select pgmq.read('payments_domain_events', 3600, 1)")
        wait_until(lambda: consumer.statistics()["lost_leases"] == 1, "it is noticed")
        assert "The lease of message 1 of queue payments_domain_events has ended" in caplog.text
        ends = rows(dsn, "vt")
        release.set()
        wait_until(lambda: "Handling domain event payment.processed failed" in caplog.text, "the handler has failed")

    # Whoever has the event now is not disturbed by the failure.
    assert rows(dsn, "vt") == ends


def test_postgres_goes_away_and_comes_back_and_nothing_is_lost(own_postgres, caplog):
    caplog.set_level(logging.WARNING, "celery_tasker_events")
    dsn = own_postgres.dsn
    send(dsn, [event(number) for number in range(100)])
    consumer, seen, reached, go_on = Consumer(dsn, "payments", concurrency=2), [], threading.Event(), threading.Event()

    @consumer.on("*")
    def handle(event):
        seen.append(event.payload)
        if event.payload == 50:
            reached.set()
            go_on.wait(60)

    with Running(consumer):
        wait_until(reached.is_set, "half is handled")
        own_postgres.shut_down("immediate")
        go_on.set()
        wait_until(lambda: "Consuming waits for Postgres" in caplog.text, "the outage is noticed")
        own_postgres.start_again()
        wait_until(lambda: consumer.statistics()["handled"] == 100, "all is handled")

    assert seen == list(range(100))
    assert messages(dsn, "payments") == []
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2, told
    assert told[1] == "Consuming goes on"


def test_a_consumer_that_starts_before_postgres_waits_for_it(own_postgres, caplog):
    send(own_postgres.dsn, [event(1)])
    own_postgres.shut_down()
    consumer = Consumer(own_postgres.dsn, "payments")
    consumer.on("*")(lambda event: None)

    with Running(consumer):
        wait_until(lambda: "Consuming waits for Postgres" in caplog.text, "it waits")
        own_postgres.start_again()
        wait_until(lambda: consumer.statistics()["handled"] == 1, "it works")


def test_until_empty_it_does_not_wait_for_postgres():
    consumer = Consumer("postgresql://postgres@127.0.0.1:1/none", "payments")
    consumer.on("*")(lambda event: None)

    with pytest.raises(psycopg.OperationalError):
        consumer.run(until_empty=True)


def test_a_stop_during_an_outage_waits_no_longer_than_it_may(own_postgres, caplog):
    send(own_postgres.dsn, [event(1)])
    consumer, running, go_on = Consumer(own_postgres.dsn, "payments", shutdown_timeout=0.1), threading.Event(), threading.Event()

    @consumer.on("*")
    def handle(event):
        running.set()
        go_on.wait(60)

    with Running(consumer):
        wait_until(running.is_set, "the handler runs")
        own_postgres.shut_down("immediate")
        go_on.set()
        wait_until(lambda: "Consuming waits for Postgres" in caplog.text, "the outage is noticed")

    own_postgres.start_again()
    assert [message["payload"] for message in messages(own_postgres.dsn, "payments")] == [1]
