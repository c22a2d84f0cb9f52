"""Subscribers of every kind, and streams, in real workers: a bad one hurts nobody, and the log shows what each did."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from worker_process import wait_until

ORDERS = (1, 2, 3)


@pytest.fixture(scope="module")
def run(module_shop):
    """One worker's life with one child: what it logged, and the child's statistics."""
    worker = module_shop.start("--concurrency", "1", app="subscribers_app", dispatch_timeout_ms=300)
    ids = {order: module_shop.send("pay", order) for order in ORDERS}
    for result in ids.values():
        result.get(timeout=30)
    statistics = module_shop.send("statistics").get(timeout=60)
    module_shop.send("subscribe_late").get(timeout=30)
    module_shop.send("pay", 4).get(timeout=30)
    exit_code = worker.stop()
    return SimpleNamespace(log=worker.log, ids=ids, statistics=statistics, exit_code=exit_code)


def told(run, what):
    """The orders that a subscriber spoke of; the broker keeps no order."""
    return sorted(int(order) for order in re.findall(rf"(?:^|\] ){what} (\d+) ", run.log, re.MULTILINE))


def test_a_coroutine_gets_every_event_behind_those_that_hang_and_raise(run):
    assert told(run, "heard asynchronously") == [1, 2, 3, 4]


def test_a_class_has_its_hooks_called_in_the_worker(run):
    assert told(run, "accounted") == [1, 2, 4]
    assert told(run, "closed the books on") == [1, 4]
    assert told(run, "told of LookupError about") == [2]


def test_a_hanging_function_is_left_behind_and_a_hanging_coroutine_cancelled(run):
    assert re.search(r"Subscriber \S+\.hang has not returned within 0\.3 s: it is left behind", run.log)
    assert re.search(r"Subscriber \S+\.hang_async has not returned within 0\.3 s: it is cancelled", run.log)
    assert told(run, "cancelled") == [1]


def test_errors_are_told_with_the_subscribers_name(run):
    assert len(re.findall(r"Subscriber \S+\.fail failed: RuntimeError: this function is broken", run.log)) == 4
    assert len(re.findall(r"Subscriber \S+\.fail_async failed: SystemExit: this coroutine is broken", run.log)) == 4


def test_the_ready_made_subscribers_work_in_the_worker(run):
    for result in run.ids.values():
        assert re.search(
            rf"\[SHOP\] Domain event received: event_name=payment\.processed event_id=\S+ task_uuid={result.id} "
            rf"step_name=pay namespace=payments correlation_id={result.id}",
            run.log,
        )


def test_statistics_tell_how_each_one_fared(run):
    def ended(name):
        of = run.statistics[name]
        return tuple(of[key] for key in ("received", "handled", "skipped", "failed", "timed_out"))

    assert ended("hang") == (3, 2, 0, 0, 1)
    assert ended("hang_async") == (3, 2, 0, 0, 1)
    assert ended("fail") == ended("fail_async") == (3, 0, 0, 3, 0)
    assert ended("hear_async") == ended("MetricsSubscriber") == (3, 3, 0, 0, 0)
    assert ended("Accountant") == (3, 1, 1, 1, 0)
    assert run.statistics["hang"]["total_time_ms"] >= 300


def test_who_subscribes_while_the_worker_runs_gets_what_comes_then(run):
    assert told(run, "late") == [4]


def test_a_stream_is_read_in_the_child_in_which_the_tasks_run(run):
    assert told(run, "read") == [1, 2, 3, 4]


def test_the_worker_ends_well_whatever_its_subscribers_did(run):
    assert run.exit_code == 0
    for trouble in ("never retrieved", "was destroyed", "never awaited", "Exception in thread"):
        assert trouble not in run.log


def test_a_stream_in_a_worker_of_threads_is_read_while_tasks_run_and_ends_with_the_worker(shop):
    worker = shop.start(pool="threads", app="subscribers_app", dispatch_timeout_ms=300)

    shop.send("pay", 7).get(timeout=30)
    wait_until(lambda: re.search(r"(?:^|\] )read 7 ", worker.log, re.MULTILINE), "the stream is read while the worker runs")

    assert worker.stop() == 0
    assert worker.log.count("the stream has ended") == 1
