"""Subscribers that hurt, in real workers: the others, the durable path, the tasks and the shutdown do not feel it."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from queues import messages
from worker_process import wait_until

ORDERS = range(1, 13)


def told(log: str, what: str) -> list[int]:
    return sorted(int(order) for order in re.findall(rf"(?:^|\] ){what} (\d+) in", log, re.MULTILINE))


@pytest.mark.parametrize(
    ("kinds", "notes", "pool"),
    [
        ("exit_process,interrupt,end_generator,leak", 0, "prefork"),
        ("delay", 1, "prefork"),
        ("publish", 1, "prefork"),
        ("loop", 0, "prefork"),
        ("hang,exit_process,leak,delay,publish,fork", 2, "prefork"),
        ("hang,exit_process,leak,delay,publish,fork", 2, "threads"),
    ],
)
def test_a_hostile_subscriber_hurts_nobody(shop, dsn, kinds, notes, pool):
    worker = shop.start(
        *("--concurrency", "1"),
        app="hostile",
        pool=pool,
        environment={"HOSTILE": kinds},
        dsn=dsn,
        dispatch_timeout_ms=300,
        shutdown_drain_timeout_ms=20_000,
    )

    results = [shop.send("pay", order) for order in ORDERS]
    assert [result.get(timeout=60) for result in results] == [{"order": order} for order in ORDERS]
    wait_until(lambda: len(told(worker.log, "last heard")) == len(ORDERS), "the last subscriber has had every event", 60)
    wait_until(lambda: len(messages(dsn, "notes")) == notes * len(ORDERS), "what subscribers set off is there", 60)
    assert worker.stop() == 0

    # Each exactly once: a forked child that came back delivers nothing.
    assert told(worker.log, "last heard") == list(ORDERS)
    assert [order for order in told(worker.log, "first heard") if order] == list(ORDERS)
    assert sorted(message["payload"]["order"] for message in messages(dsn, "payments")) == list(ORDERS)
    assert Counter(message["payload"]["order"] for message in messages(dsn, "notes")) == dict.fromkeys(
        ORDERS if notes else (), notes
    )
    assert messages(dsn, "payments", dead_letters=True) == []
    assert "Exception in thread" not in worker.log


def test_one_that_hangs_for_ever_keeps_no_more_than_three_threads(shop, dsn):
    worker = shop.start("--concurrency", "1", app="hostile", environment={"HOSTILE": "hang"}, dsn=dsn, dispatch_timeout_ms=100)

    for order in range(1, 31):
        shop.send("pay", order)
    wait_until(lambda: len(told(worker.log, "last heard")) == 30, "the last subscriber has had every event", 60)

    assert shop.send("threads").get(timeout=60) == 4
    assert worker.log.count("it gets no events until it is tried again") == 1
    assert worker.stop() == 0


def test_one_that_closes_the_plugin_again_and_again_loses_nothing(shop, dsn):
    worker = shop.start("--concurrency", "1", app="hostile", environment={"HOSTILE": "close"}, dsn=dsn)

    for order in ORDERS:
        shop.send("pay", order).get(timeout=60)
    wait_until(lambda: len(told(worker.log, "last heard")) == len(ORDERS), "the last subscriber has had every event", 60)
    assert worker.stop() == 0

    assert sorted(message["payload"]["order"] for message in messages(dsn, "payments")) == list(ORDERS)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_subscriber_that_blocks_does_not_hold_up_the_shutdown(shop, dsn, pool):
    worker = shop.start(
        *("--concurrency", "1"),
        app="hostile",
        pool=pool,
        environment={"HOSTILE": "hang"},
        dsn=dsn,
        dispatch_timeout_ms=3_600_000,
        shutdown_drain_timeout_ms=300,
    )
    shop.send("pay", 1).get(timeout=60)
    wait_until(lambda: told(worker.log, "first heard") == [1], "the subscribers are being called")
    wait_until(lambda: messages(dsn, "payments"), "the event is committed")

    # It hangs for ever: had the worker waited for it, it would not end.
    assert worker.stop() == 0
    assert told(worker.log, "last heard") == []
