"""An outage of Postgres: events wait on disk, survive their process, and are published in order when it is over."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from frozen import frozen
from queues import messages
from worker_process import wait_until

from celery_tasker_events.durable.spool.place import spool_path
from celery_tasker_events.durable.spool.report import spool_totals

APP = Path(__file__).parent / "apps" / "outage.py"


def publish(events, numbers):
    for number in numbers:
        assert events.publish("number.noted", number, namespace="numbers")


def published(dsn):
    return [event["payload"] for event in messages(dsn, "numbers") if event["event_name"] == "number.noted"]


def on_disk(dsn, spool_dir):
    return spool_totals(spool_path(dsn, spool_dir)).events


def run_program(dsn, spool_dir, count, how=""):
    settings = {"tasker_events_dsn": dsn, "tasker_events_spool_dir": spool_dir, "tasker_events_shutdown_drain_timeout_ms": 30_000}
    environment = {**os.environ, "SHOP_SETTINGS": json.dumps(settings)}
    return subprocess.run([sys.executable, str(APP), str(count), how], env=environment, timeout=120, check=False).returncode


def test_events_of_an_outage_wait_on_disk_and_are_published_in_order(own_postgres, publish_to, spool_dir, caplog):
    caplog.set_level(logging.WARNING, "celery_tasker_events")
    dsn = own_postgres.dsn
    events = publish_to(dsn)
    publish(events, range(10))
    assert events.drain(30)

    own_postgres.shut_down("immediate")
    publish(events, range(10, 300))
    wait_until(lambda: on_disk(dsn, spool_dir) == 290, "all of them are on disk")
    own_postgres.start_again()
    publish(events, range(300, 310))
    assert events.drain(60)

    assert published(dsn) == list(range(310))
    assert on_disk(dsn, spool_dir) == 0
    told = [record.getMessage() for record in caplog.records if record.name == "celery_tasker_events"]
    assert len(told) == 2, told
    assert "wait on disk" in told[0]
    assert told[1] == "Durable domain events are published again"


def test_a_frozen_postgres_keeps_nothing_in_memory_for_long(own_postgres, publish_to, spool_dir, caplog):
    dsn = own_postgres.dsn
    events = publish_to(dsn)
    publish(events, range(10))
    assert events.drain(30)

    with frozen(own_postgres):
        publish(events, range(10, 200))
        wait_until(lambda: on_disk(dsn, spool_dir) == 190, "all of them are on disk")
        publish(events, range(200, 210))
        wait_until(lambda: on_disk(dsn, spool_dir) == 200, "the later ones, too")
    assert events.drain(60)

    assert published(dsn) == list(range(210))
    assert "a commit takes longer than 1 s" in caplog.text


def test_events_of_a_killed_process_are_published_by_the_next_one(own_postgres, publish_to, spool_dir):
    dsn = own_postgres.dsn
    own_postgres.shut_down("immediate")
    assert run_program(dsn, spool_dir, 100, "kill") < 0
    assert on_disk(dsn, spool_dir) == 100

    own_postgres.start_again()
    events = publish_to(dsn)
    publish(events, [100])
    wait_until(lambda: on_disk(dsn, spool_dir) == 0, "all that was on disk is published")
    assert events.drain(30)

    assert sorted(published(dsn)) == list(range(101))
    assert published(dsn)[:100] == sorted(published(dsn)[:100])


def test_a_script_that_ends_in_an_outage_does_not_wait_and_loses_nothing(own_postgres, spool_dir):
    dsn = own_postgres.dsn
    own_postgres.shut_down("immediate")
    assert run_program(dsn, spool_dir, 50) == 0
    assert on_disk(dsn, spool_dir) == 50
    own_postgres.start_again()
    assert run_program(dsn, spool_dir, 1) == 0

    assert Counter(published(dsn)) == Counter([*range(50), 0])


def test_a_worker_that_starts_after_the_outage_publishes_what_the_one_before_it_left(shop, own_postgres, spool_dir):
    dsn = own_postgres.dsn
    settings = {"app": "outage", "dsn": dsn, "spool_dir": spool_dir}
    worker = shop.start(**settings)
    own_postgres.shut_down("immediate")
    results = [shop.client.send_task("outage.number", [value]) for value in range(20)]
    assert [result.get(timeout=30) for result in results] == list(range(20))
    assert worker.stop() == 0
    assert on_disk(dsn, spool_dir) == 20

    own_postgres.start_again()
    worker = shop.start(**settings)
    wait_until(lambda: len(published(dsn)) >= 20, "the next worker publishes them, although no task has run")
    assert worker.stop() == 0

    # Celery 5.4 may run the last step again, which it had not acknowledged when it stopped: its event is a repetition then.
    by_key = {event["metadata"]["idempotency_key"]: event["payload"] for event in messages(dsn, "numbers")}
    assert sorted(by_key.values()) == list(range(20))


def test_what_a_hard_time_limit_leaves_in_the_channel_is_published_by_the_next_child(shop, dsn, spool_dir):
    worker = shop.start("--concurrency", "1", app="outage", dsn=dsn, spool_dir=spool_dir)

    shop.client.send_task("outage.slow", [150], {"hang": True})

    def names():
        return Counter(event["event_name"] for event in messages(dsn, "numbers"))

    wait_until(lambda: names()["slow.failed"] == 1, "the main process tells of the time limit")
    wait_until(lambda: names()["slow.noted"] >= 149, "the next child publishes what the killed one left", timeout=60)
    assert worker.stop() == 0

    noted = [event for event in messages(dsn, "numbers") if event["event_name"] == "slow.noted"]
    # One may have been in the hands of the publisher when the child was killed, and what it had just published comes
    # again with the same id.
    assert len({event["event_id"] for event in noted}) == len({event["payload"] for event in noted}) >= 149


def test_a_full_spool_drops_the_newest_and_counts_them(publish_to, spool_dir, caplog):
    nowhere = "postgresql://postgres@127.0.0.1:1/none"
    events = publish_to(nowhere, spool_max_bytes=20_000, durable_buffer_size=10)
    publish(events, range(100))
    wait_until(lambda: any(series.name == "dropped" for series in events.counters()), "some are dropped")
    wait_until(lambda: events._current_runtime()._dispatcher.depth() == 0, "all were handed on")

    dropped = sum(count for series, count in events.counters().items() if series.name == "dropped")
    assert on_disk(nowhere, spool_dir) > 10
    assert events._current_runtime()._durable.depth() + dropped == 100
    assert "raise tasker_events_spool_max_bytes above 20000" in caplog.text


def test_without_a_usable_folder_events_wait_in_memory(own_postgres, publish_to, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    own_postgres.shut_down("immediate")
    events = publish_to(own_postgres.dsn, spool_dir=str(tmp_path / "file" / "spool"))
    publish(events, range(50))
    wait_until(lambda: "wait in memory" in caplog.text, "the outage is told")
    own_postgres.start_again()
    assert events.drain(60)

    assert published(own_postgres.dsn) == list(range(50))
    assert caplog.text.count("can't wait on disk, only in memory") == 1


GROWTH = """
import resource, sys, time
from celery import Celery
from celery_tasker_events import DomainEvents

app = Celery("growth", set_as_current=False)
app.conf.update(tasker_events_dsn=sys.argv[1], tasker_events_spool_dir=sys.argv[2], tasker_events_shutdown_drain_timeout_ms=1)
events = DomainEvents(app)
payload = {"text": "x" * 400}

def publish(count):
    for number in range(count):
        assert events.publish("number.noted", payload, namespace="numbers")
        while number % 500 == 0 and events._current_runtime()._dispatcher.depth():
            time.sleep(0.001)

publish(20_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
publish(int(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_length_of_an_outage(spool_dir):
    # TEST_OUTAGE_EVENTS=1000000 for the long run.
    count = int(os.environ.get("TEST_OUTAGE_EVENTS", "60000"))
    nowhere = "postgresql://postgres@127.0.0.1:1/none"

    command = [sys.executable, "-c", GROWTH, nowhere, spool_dir, str(count)]
    grown = int(subprocess.run(command, capture_output=True, text=True, timeout=3000, check=True).stdout)

    assert grown < 20_000, "kilobytes; the events themselves are 50 MB and more"
    totals = spool_totals(spool_path(nowhere, spool_dir))
    assert totals.bytes > count * 400 or totals.bytes > 250_000_000
