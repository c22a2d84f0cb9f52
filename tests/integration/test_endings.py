"""How steps end: what is told, and by whom."""

from __future__ import annotations

from types import SimpleNamespace

import celery
import pytest
from queues import messages
from worker_process import wait_until


def outcomes(dsn, result):
    """The events of one step, without their common first segment, in the order in which they were committed."""
    of_step = (event for event in messages(dsn, "steps") if event["metadata"]["step_uuid"] == result.id)
    return [event["event_name"].removeprefix("step.") for event in of_step]


ENDED = {"success", "permanent_failure"}

#: Whether Celery's main process tells of a task that rejects itself for good, and of one that ends its process.
TELLS_ALL = tuple(map(int, celery.__version__.split(".")[:2])) >= (5, 7)


@pytest.fixture(scope="module")
def run(tmp_path_factory, new_database, make_shop):
    """A prefork worker whose tasks end in every way that leaves the worker alive."""
    shop, dsn = make_shop(tmp_path_factory.mktemp("endings")), new_database()
    worker = shop.start("--max-tasks-per-child", "5", app="endings", dsn=dsn)

    def send(name, **kwargs):
        return shop.client.send_task(f"endings.{name}", kwargs=kwargs)

    def settle(results):
        # Some of these have no result for their caller, so their events are waited for.
        for name, result in results.items():
            wait_until(lambda result=result: ENDED & set(outcomes(dsn, result)), f"the outcome of {name}", timeout=60)
        return results

    sent = {"ignored": send("ignored")}
    names = ("too_long", "replaced", "thrower", "retried", *(("rejected", "exits") if TELLS_ALL else ()))
    results = {name: send(name) for name in names}
    results |= {"caught": send("softly", caught=True), "not_caught": send("softly", caught=False)}
    sent |= settle(results)
    # Last, and alone: it takes with it what its child has not committed yet.
    sent |= settle({"lost": send("lost")})
    exit_code = worker.stop()
    return SimpleNamespace(**sent, dsn=dsn, worker=worker, exit_code=exit_code)


def test_a_hard_time_limit_is_one_permanent_failure_that_the_main_process_tells(run):
    assert outcomes(run.dsn, run.too_long) == ["permanent_failure"]
    (event,) = (e for e in messages(run.dsn, "steps") if e["metadata"]["step_uuid"] == run.too_long.id)
    assert event["execution_result"]["error"] == {
        "type": "TimeLimitExceeded",
        "message": "TimeLimitExceeded(1,)",
        "retryable": False,
    }
    assert event["metadata"]["task_uuid"] == run.too_long.id


def test_a_lost_child_is_one_permanent_failure_that_the_main_process_tells(run):
    assert outcomes(run.dsn, run.lost) == ["permanent_failure"]
    (event,) = (e for e in messages(run.dsn, "steps") if e["metadata"]["step_uuid"] == run.lost.id)
    assert event["execution_result"]["error"]["type"] == "WorkerLostError"


def test_a_soft_time_limit_is_a_permanent_failure_unless_the_task_catches_it(run):
    assert outcomes(run.dsn, run.not_caught) == ["permanent_failure"]
    assert outcomes(run.dsn, run.caught) == ["success"]


@pytest.mark.skipif(not TELLS_ALL, reason="this Celery tells nobody of it")
def test_a_task_that_ends_its_process_loses_nothing_that_it_published_before(run):
    assert "before the exit" in [event["payload"] for event in messages(run.dsn, "bursts")]
    assert outcomes(run.dsn, run.exits) == ["permanent_failure"]


def test_retries_are_as_many_retryable_failures_and_the_last_one_is_permanent(run):
    assert outcomes(run.dsn, run.retried) == ["retryable_failure", "permanent_failure"]


def test_an_expected_error_is_a_permanent_failure_as_any_other(run):
    assert outcomes(run.dsn, run.thrower) == ["permanent_failure"]


@pytest.mark.skipif(not TELLS_ALL, reason="this Celery tells nobody of it")
def test_a_step_that_rejects_itself_for_good_is_a_permanent_failure(run):
    assert outcomes(run.dsn, run.rejected) == ["permanent_failure"]


def test_a_step_that_ignores_itself_has_no_outcome(run):
    assert outcomes(run.dsn, run.ignored) == []


def test_a_step_that_is_replaced_has_the_outcome_of_its_replacement_only(run):
    assert outcomes(run.dsn, run.replaced) == ["success"]


def test_the_worker_ends_well(run):
    assert run.exit_code == 0
    assert "Domain events of task" not in run.worker.log
