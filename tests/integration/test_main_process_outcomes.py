"""What only the worker's main process sees: hard time limits, lost children, revoked and terminated steps, once each."""

from __future__ import annotations

import re
import uuid
from types import SimpleNamespace

import pytest
from queues import messages
from services import REDIS, url_of
from worker_process import wait_until

FAILED = ["step.always", "step.failure", "step.permanent_failure"]

#: How each step that runs is ended.
TERMINATED = {"terminated": "SIGTERM", "killed": "SIGKILL", "softly": "SIGUSR1"}


def of_step(dsn, step_uuid):
    return [event for event in messages(dsn, "steps") if event["metadata"]["step_uuid"] == step_uuid]


def begun(dsn):
    return {event["payload"] for event in messages(dsn, "begun")}


@pytest.fixture(scope="module", params=["folder", "redis"])
def run(request, tmp_path_factory, new_database, make_shop):
    """A prefork worker; the folder is served by pool threads of the main process, Redis by its event loop."""
    shop, dsn = make_shop(tmp_path_factory.mktemp("supervised")), new_database()
    if request.param == "redis":
        shop.use_broker(url_of(REDIS))
    worker = shop.start(app="supervised", dsn=dsn, concurrency=5)

    steps = {label: {"task": "sleep"} for label in TERMINATED}
    steps["too_long"] = {"task": "sleep", "time_limit": 1}
    steps["lost"] = {"task": "kill_itself"}
    steps["expired"] = {"task": "sleep", "expires": -1}
    steps["revoked"] = {"task": "sleep", "task_id": str(uuid.uuid4())}
    shop.client.control.revoke(steps["revoked"]["task_id"], reply=True, limit=1, timeout=30)
    assert "Tasks flagged as revoked" in worker.log
    root = shop.client.send_task("supervised.start", [steps])
    ids = root.get(timeout=30)

    wait_until(lambda: {*TERMINATED, "too_long"} <= begun(dsn), "the sleepers have begun", timeout=60)
    for label, signal in TERMINATED.items():
        shop.client.control.revoke(ids[label], terminate=True, signal=signal)
    for label in (*TERMINATED, "too_long", "lost"):
        wait_until(lambda label=label: len(of_step(dsn, ids[label])) >= len(FAILED), f"the events of {label}", timeout=60)
    wait_until(lambda: worker.log.count("Discarding revoked task") == 2, "two steps are discarded")
    if request.param == "redis":
        exit_code = worker.stop()
    else:
        # Without an event loop billiard's children share locks, and one that is killed may take one with it: such a worker
        # may not end by itself.
        worker.kill()
        exit_code = None
    events = {label: of_step(dsn, step_uuid) for label, step_uuid in ids.items()}
    return SimpleNamespace(root=root.id, ids=ids, events=events, worker=worker, exit_code=exit_code)


@pytest.mark.parametrize(
    ("label", "error"),
    [
        ("too_long", ("TimeLimitExceeded", r"TimeLimitExceeded\(1,\)")),
        ("lost", ("WorkerLostError", r"Worker exited prematurely: .+")),
        ("terminated", ("TaskRevokedError", "terminated by SIGTERM")),
        ("killed", ("TaskRevokedError", "terminated by SIGKILL")),
        # This signal is billiard's soft time limit: the child goes on, and tells by itself.
        ("softly", ("SoftTimeLimitExceeded", r"SoftTimeLimitExceeded\(\)")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_one_event_for_each_condition_that_a_permanent_failure_meets(run, label, error):
    kind, message = error
    events = run.events[label]

    assert sorted(event["event_name"] for event in events) == FAILED
    for event in events:
        result, metadata = event["execution_result"], event["metadata"]
        assert (result["error"]["type"], result["error"]["retryable"]) == (kind, False)
        assert re.fullmatch(message, result["error"]["message"])
        assert (metadata["task_uuid"], metadata["correlation_id"]) == (run.root, run.root)
        assert result["metadata"]["attempt"] == 1
        assert event["payload"] == {"args": [label], "attempt": 1}


@pytest.mark.parametrize("label", ["revoked", "expired"])
def test_a_step_that_never_ran_has_no_outcome(run, label):
    assert run.events[label] == []


def test_the_main_process_goes_on_and_ends_well(run):
    assert run.exit_code in (0, None)
    assert run.worker.troubles_of_ours() == []
