"""Outcomes of single attempts on real workers: retries, rejections, redeliveries, callbacks of a task's own, replacements."""

from __future__ import annotations

import re
import signal
import uuid
from collections import Counter
from types import SimpleNamespace

import celery
import pytest
from queues import messages
from services import RABBITMQ, REDIS, url_of
from worker_process import wait_until

ENDED = {"step.success", "step.permanent_failure"}

VERSION = tuple(map(int, celery.__version__.split(".")[:2]))


def of(dsn, result):
    """The events of one step, in the order in which they happened: two children may commit in another."""
    events = (event for event in messages(dsn, "steps") if event["metadata"]["step_uuid"] == result.id)
    return sorted(events, key=lambda event: event["metadata"]["fired_at"])


def has_ended(dsn, result, times=1):
    return sum(event["event_name"] in ENDED for event in of(dsn, result)) >= times


@pytest.fixture(scope="module")
def run(module_shop, new_database):
    dsn = new_database()
    worker = module_shop.start(app="outcomes", dsn=dsn)

    def send(name, **kwargs):
        return module_shop.client.send_task(f"outcomes.{name}", kwargs=kwargs)

    sent = {
        "with_error": send("retries_itself", names_the_error=True),
        "without_error": send("retries_itself", names_the_error=False),
        "gives_up": send("gives_up"),
        "recovers": send("recovers"),
        "goes_on": send("retries_and_goes_on"),
        "given_back": send("is_given_back"),
        "ignored": send("ignores_its_result", fails=False),
        "ignored_failure": send("ignores_its_result", fails=True),
        "unencodable": send("returns_what_no_backend_encodes"),
        "loud": send("loud", fails=False),
        "loud_failure": send("loud", fails=True),
        "broken_on_failure": send("broken_on_failure"),
        "called": send("called"),
        "quiet": send("quiet", fails=False),
        "quiet_failure": send("quiet", fails=True),
        "counts_down": module_shop.client.send_task("outcomes.counts_down", [2]),
        "calls": send("calls_another"),
    }
    for name, result in sent.items():
        wait_until(lambda result=result: has_ended(dsn, result), f"the outcome of {name}", timeout=90)
    wait_until(lambda: has_ended(dsn, sent["goes_on"], 2), "the retry of the task that went on", timeout=60)
    wait_until(lambda: len(messages(dsn, "inside")) == 2, "the child's event")
    # Alone, as it takes with it what its child has not committed yet.
    sent["survives"] = send("survives")
    wait_until(lambda: has_ended(dsn, sent["survives"], 2), "the redelivered task", timeout=60)
    exit_code = worker.stop()
    return SimpleNamespace(**sent, dsn=dsn, log=worker.log, exit_code=exit_code, inside=messages(dsn, "inside"))


def told(run, result):
    """Names of a step's events, without their first segment, in order."""
    return [event["event_name"].removeprefix("step.") for event in of(run.dsn, result)]


@pytest.mark.parametrize(("name", "error"), [("with_error", "KeyError"), ("without_error", "MaxRetriesExceededError")])
def test_as_many_retryable_failures_as_retries_and_one_permanent_failure_when_they_are_spent(run, name, error):
    result = getattr(run, name)

    assert told(run, result) == ["retryable_failure", "retryable_failure", "permanent_failure"]
    ended = of(run.dsn, result)
    assert [event["execution_result"]["metadata"]["attempt"] for event in ended] == [1, 2, 3]
    assert [event["execution_result"]["error"]["retryable"] for event in ended] == [True, True, False]
    assert ended[-1]["execution_result"]["error"]["type"] == error
    assert len({event["metadata"]["idempotency_key"] for event in ended}) == 3


def test_an_error_that_is_not_to_be_retried_is_permanent_at_once(run):
    assert told(run, run.gives_up) == ["permanent_failure"]


def test_a_step_that_recovers_is_a_success_after_its_retryable_failures(run):
    assert told(run, run.recovers) == ["retryable_failure", "retryable_failure", "success"]


def test_a_step_that_asks_for_a_retry_and_goes_on_has_the_outcome_of_each_attempt(run):
    assert told(run, run.goes_on) == ["success", "success"]
    assert [event["execution_result"]["metadata"]["attempt"] for event in of(run.dsn, run.goes_on)] == [1, 2]


def test_a_requeued_rejection_has_no_outcome_and_the_redelivery_has_its_own(run):
    assert told(run, run.given_back) == ["began", "began", "success"]
    first, second, success = of(run.dsn, run.given_back)
    assert first["metadata"]["idempotency_key"] == second["metadata"]["idempotency_key"]
    assert [e["execution_result"]["metadata"]["redelivered"] for e in (first, second, success)] == [False, True, True]


def test_an_ignored_result_is_an_outcome_as_any_other(run):
    assert told(run, run.ignored) == ["success"]
    assert of(run.dsn, run.ignored)[0]["payload"] == "nobody stores it"
    assert told(run, run.ignored_failure) == ["permanent_failure"]


def test_a_result_that_the_backend_can_not_encode_is_a_permanent_failure(run):
    assert told(run, run.unencodable) == ["permanent_failure"]
    assert of(run.dsn, run.unencodable)[0]["execution_result"]["error"]["type"] == "EncodeError"


@pytest.mark.skipif(VERSION < (5, 7), reason="this Celery makes a failure of it, after it has stored the success")
def test_a_tasks_own_on_success_that_raises_changes_nothing(run):
    assert told(run, run.loud) == ["success"]
    assert f"own on_success of {run.loud.id}" in run.log


def test_a_tasks_own_on_failure_is_called_and_the_failure_told_once(run):
    assert told(run, run.loud_failure) == ["permanent_failure"]
    assert run.log.count(f"own on_failure of {run.loud_failure.id}") == 1


def test_a_tasks_own_on_failure_that_raises_does_not_hide_the_failure(run):
    assert told(run, run.broken_on_failure) == ["permanent_failure"]


def test_what_a_tasks_own_callbacks_publish_belongs_to_the_step(run):
    assert told(run, run.quiet) == ["noted", "quiet", "success"]
    assert told(run, run.quiet_failure) == ["noted", "quiet", "permanent_failure"]


def test_a_task_class_with_a_call_of_its_own_is_a_step_as_any_other(run):
    assert told(run, run.called) == ["noted", "success"]
    assert of(run.dsn, run.called)[-1]["payload"] == {"called": "run"}


def test_a_task_that_is_replaced_by_itself_has_a_key_for_every_run_and_one_outcome(run):
    assert Counter(told(run, run.counts_down)) == {"noted": 5, "retryable_failure": 2, "success": 1}
    keys = [event["metadata"]["idempotency_key"] for event in of(run.dsn, run.counts_down)]
    assert len(set(keys)) == len(keys)


def test_a_task_that_is_called_like_a_function_is_part_of_its_callers_step(run):
    assert told(run, run.calls) == ["success"]
    noted, child = sorted(run.inside, key=lambda event: event["event_name"], reverse=True)
    # The namespace is that of the code which publishes; all else is the step's.
    assert (noted["event_name"], noted["metadata"]["step_name"]) == ("step.noted", "calls_another")
    assert noted["metadata"]["step_uuid"] == run.calls.id
    assert child["event_name"] == "child.ended"
    assert child["metadata"]["correlation_id"] == child["metadata"]["task_uuid"] == run.calls.id


def are_repeated(dsn, result):
    """Whether each event of a step came twice, the second time with the same key, and marked as redelivered."""
    events = of(dsn, result)
    assert Counter(event["event_name"] for event in events) == {"step.noted": 4, "step.success": 2}
    first, second = events[:3], events[3:]
    for one, other in zip(first, second, strict=True):
        assert one["event_name"] == other["event_name"]
        assert one["metadata"]["idempotency_key"] == other["metadata"]["idempotency_key"]
        assert one["event_id"] != other["event_id"]
    assert len({event["metadata"]["idempotency_key"] for event in first}) == 3
    assert {event["execution_result"]["metadata"]["redelivered"] for event in first} == {False}
    assert {event["execution_result"]["metadata"]["redelivered"] for event in second} == {True}
    return True


def test_a_repeated_attempt_repeats_its_events_with_the_same_keys(run):
    assert are_repeated(run.dsn, run.survives)


def test_the_worker_ends_well_and_logs_no_trouble_of_the_plugin(run):
    assert run.exit_code == 0
    assert "celery_tasker_events/" not in "".join(re.findall(r"Traceback.*?(?=\n\[|\Z)", run.log, re.DOTALL))
    assert "Domain events of task" not in run.log
    assert "dropped" not in run.log


@pytest.mark.parametrize("service", [RABBITMQ, REDIS], ids=lambda service: service.name)
def test_an_attempt_that_another_worker_repeats_has_the_same_keys(shop, dsn, service):
    queue = f"tasker_events_test_{uuid.uuid4().hex}"
    # Redis hands a message out again after this many seconds without an acknowledgement, if a worker looks for it.
    redis_options = {"visibility_timeout": 2, "unacked_restore_interval": 0.5, "unacked_restore_throttle": 1}
    options = redis_options if service is REDIS else {}
    shop.settings.clear()
    shop.settings.update(broker_url=url_of(service), broker_transport_options=options, task_default_queue=queue)
    shop.client = type(shop.client)("producer", set_as_current=False)
    shop.client.conf.update(shop.settings)
    result = shop.client.send_task("outcomes.survives")

    first = shop.start(app="outcomes", dsn=dsn, environment={"OUTCOMES_KILLS_WORKER": "1"}, wait_ready=False)
    assert first.process.wait(60) == -signal.SIGKILL
    second = shop.start(app="outcomes", dsn=dsn)
    wait_until(lambda: has_ended(dsn, result, 2), "the redelivered task", timeout=90)
    assert second.stop() == 0
    with shop.client.connection_for_write() as connection:
        connection.default_channel.queue_delete(queue)

    assert are_repeated(dsn, result)
