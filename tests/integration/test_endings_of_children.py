"""However a prefork child ends while its worker goes on, what it accepted before is committed; killed, what was confirmed."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from pathlib import Path

import pytest
from bursts import COUNT, BurstingWorker, all_of, noted, nothing_is_committed
from worker_process import wait_until

#: Seconds for which Postgres takes nothing when the ending has begun: a child that does not drain is gone after two,
#: one until it looks at its orders and one of farewell.
BUSY = 2.5


@pytest.mark.parametrize(
    "options", [("--max-tasks-per-child", "1"), ("--max-memory-per-child", "1")], ids=["max-tasks", "max-memory"]
)
def test_a_child_that_is_recycled(shop, dsn, options):
    bench = BurstingWorker(shop, dsn, *options, concurrency=1)
    with nothing_is_committed(dsn):
        first = bench.burst("a").get(timeout=60)
        time.sleep(BUSY)

    second = bench.burst("b").get(timeout=60)
    assert first != second
    assert bench.worker.stop() == 0
    assert noted(dsn) == all_of("a", "b")
    assert bench.worker.troubles_of_ours() == []


def test_a_recycled_child_that_drains_when_its_worker_is_told_to_end(shop, dsn):
    environment = {"DIE_WITH_WHOEVER_FORKED": "1"}
    bench = BurstingWorker(shop, dsn, "--max-tasks-per-child", "1", concurrency=1, environment=environment)
    bench.burst("a").get(timeout=60)
    wait_until(lambda: len(noted(dsn)) == COUNT, "the first child is done")
    with nothing_is_committed(dsn):
        # Its child was forked by a thread, at the end of which Celery has it killed by Linux.
        bench.burst("b").get(timeout=60)
        bench.worker.process.send_signal(signal.SIGTERM)
        # Celery looks at that after up to two seconds here, and the thread sleeps for almost another.
        time.sleep(3 + BUSY)

    assert bench.worker.stop() == 0
    assert noted(dsn) == all_of("a", "b")
    assert bench.worker.troubles_of_ours() == []


def children_of(bench: BurstingWorker) -> set[int]:
    """Those that live, also when their main process does not."""
    main_process = bench.worker.process.pid
    states = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            states[int(path.parent.name)] = path.read_text().rpartition(") ")[2].split()
    return {
        pid
        for pid, (state, _, group, *_) in states.items()
        if int(group) == main_process and pid != main_process and state != "Z"
    }


def test_on_the_folder_broker_a_child_that_replaces_another_does_not_end_with_the_thread_that_forked_it(shop, dsn):
    bench = BurstingWorker(shop, dsn, "--max-tasks-per-child", "1", concurrency=1)

    told = [shop.client.send_task("ending.death_signal").get(timeout=60) for _ in range(2)]

    assert told == [signal.SIGKILL, signal.SIGURG]
    assert bench.worker.stop() == 0


def test_on_the_folder_broker_no_child_outlives_a_main_process_that_is_killed(shop, dsn):
    bench = BurstingWorker(shop, dsn, "--max-tasks-per-child", "1")
    before = children_of(bench)
    bench.burst("a").get(timeout=60)
    # One of the first children still holds the lock of the queue, for which the one that replaced the other waits.
    wait_until(lambda: len(children_of(bench) & before) == 1 and len(children_of(bench) - before) == 1, "one is replaced")

    bench.worker.process.kill()
    bench.worker.process.wait()

    wait_until(lambda: not children_of(bench), "no child is left")


def test_a_child_that_the_autoscaler_takes_away(shop, dsn, tmp_path):
    bench = BurstingWorker(shop, dsn, "--autoscale", "2,1", environment={"AUTOSCALE_KEEPALIVE": "1"})
    # At first billiard looks after its children ten times a second, and takes one that is just being forked for one that has
    # ended: then the worker ends with a KeyError.
    time.sleep(3)
    with nothing_is_committed(dsn):
        bench.bursts_in_as_many_children(["a", "b"], tmp_path / "go")
        wait_until(lambda: "Scaling down" in bench.worker.log, "the pool becomes smaller")
        time.sleep(BUSY)

    assert bench.worker.stop() == 0
    assert noted(dsn) == all_of("a", "b")
    assert bench.worker.troubles_of_ours() == []


def test_a_child_of_a_pool_that_shrinks_by_remote_control_twice(shop, dsn, tmp_path):
    bench = BurstingWorker(shop, dsn, concurrency=3)
    with nothing_is_committed(dsn):
        bench.bursts_in_as_many_children(["a", "b", "c"], tmp_path / "go")
        # Billiard tells the first child that is idle, and again the same as long as it is there.
        for _ in range(2):
            assert shop.client.control.pool_shrink(1, reply=True, limit=1, timeout=30)
            time.sleep(BUSY)

    assert bench.worker.stop() == 0
    assert noted(dsn) == all_of("a", "b", "c")
    assert bench.worker.troubles_of_ours() == []


def test_children_of_a_pool_that_is_restarted_by_remote_control(shop, dsn, tmp_path):
    shop.settings["worker_pool_restarts"] = True
    bench = BurstingWorker(shop, dsn)
    with nothing_is_committed(dsn):
        before = bench.bursts_in_as_many_children(["a", "b"], tmp_path / "go")
        assert shop.client.control.pool_restart(reply=True, limit=1, timeout=30)
        # A child that waits for work without an event loop, as here, sees the order only after its next task.
        bench.burst("c").get(timeout=60)
        time.sleep(BUSY)

    assert {bench.burst(label).get(timeout=60) for label in ("d", "e")}.isdisjoint(before)
    assert bench.worker.stop() == 0
    assert noted(dsn) == all_of("a", "b", "c", "d", "e")
    assert bench.worker.troubles_of_ours() == []


def test_a_child_that_is_killed_loses_only_what_was_not_committed_and_nothing_that_was_confirmed(shop, dsn):
    bench = BurstingWorker(shop, dsn, confirm_timeout_ms=60_000)
    for label, confirm in (("confirmed", True), ("not confirmed", False)):
        shop.client.send_task("ending.killed", [label, confirm])
    wait_until(lambda: len(re.findall("signal 9|exitcode", bench.worker.log)) >= 2, "both children are gone", timeout=60)
    bench.burst("afterwards").get(timeout=60)
    assert bench.worker.stop() == 0

    told = [int(number) for number in re.findall(r"confirmed (\d+)\.", bench.worker.log)]
    numbers = {label: [number for of, number in noted(dsn) if of == label] for label in ("confirmed", "not confirmed")}
    assert len(told) >= 50
    assert set(told) <= set(numbers["confirmed"])
    for committed in numbers.values():
        assert committed == list(range(len(committed)))
    assert [event for event in noted(dsn) if event[0] == "afterwards"] == all_of("afterwards")
