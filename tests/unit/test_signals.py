"""What Celery's signals tell in odd ways: twice, without a reason, without a request, in the main process."""

from __future__ import annotations

import signal as os_signals
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from celery import Celery, Task, signals
from celery.app.task import Context
from celery.exceptions import Reject, Retry, TimeLimitExceeded

from celery_tasker_events import DomainEvent, DomainEvents, publishes_events
from celery_tasker_events.telemetry import board

from .conftest import NewShop

LONG = 30.0

Shop = tuple[Celery, DomainEvents]


class Bench:
    """An app with one task that tells every outcome, and what was heard of it."""

    def __init__(self, shop: Shop) -> None:
        self.app, self.events = shop
        self.got: list[DomainEvent] = []
        self.events.subscribe("*")(self.got.append)
        declared = publishes_events(
            [
                {"name": "step.succeeded", "delivery_mode": "fast"},
                {"name": "step.retried", "condition": "retryable_failure", "delivery_mode": "fast"},
                {"name": "step.failed", "condition": "permanent_failure", "delivery_mode": "fast"},
            ]
        )

        def step() -> None: ...

        self.task: Task = self.app.task(name="shop.step")(declared(step))
        self.app.finalize()
        self.task = self.app.tasks["shop.step"]

    def heard(self) -> list[str]:
        assert self.events.drain(LONG)
        return [event.event_name for event in self.got]

    def fail(self, task_id: str = "task-1", exception: BaseException | None = None) -> None:
        signals.task_failure.send(
            sender=self.task, task_id=task_id, exception=exception or TimeLimitExceeded(3), args=[], kwargs={}, einfo=None
        )

    def retry(self, **kwargs: Any) -> None:
        signals.task_retry.send(sender=self.task, einfo=None, **kwargs)


@pytest.fixture
def bench(shop: Shop) -> Bench:
    return Bench(shop)


def test_a_failure_that_the_main_process_tells_twice_is_published_once(bench: Bench) -> None:
    bench.fail()
    bench.fail()

    assert bench.heard() == ["step.failed"]


def test_the_second_telling_is_recognised_even_where_it_has_lost_the_request(bench: Bench) -> None:
    bench.task.push_request(id="task-1", retries=2, root_id="root-1")
    bench.fail()
    bench.task.pop_request()
    bench.fail()

    assert bench.heard() == ["step.failed"]
    [event] = bench.got
    assert event.execution_result.metadata["attempt"] == 3
    assert event.metadata.task_uuid == "root-1"


def test_failures_of_two_steps_are_both_published(bench: Bench) -> None:
    bench.fail("task-1")
    bench.fail("task-2")

    assert bench.heard() == ["step.failed", "step.failed"]
    assert [event.metadata.step_uuid for event in bench.got] == ["task-1", "task-2"]


def test_a_failure_without_a_request_still_has_the_signals_id(bench: Bench) -> None:
    bench.fail("task-1", Reject("no", requeue=False))

    assert bench.heard() == ["step.failed"]
    [event] = bench.got
    assert (event.metadata.step_uuid, event.metadata.task_uuid, event.metadata.correlation_id) == ("task-1",) * 3
    assert event.metadata.fired_by


def test_a_retry_without_a_reason_is_a_step_given_back_and_no_failure(bench: Bench) -> None:
    bench.retry(request=Context(id="task-1", retries=0))

    assert bench.heard() == []


def test_a_retry_with_a_reason_tells_the_error_behind_it(bench: Bench) -> None:
    request = Context(id="task-1", root_id="root-1", retries=1, hostname="worker@host")

    bench.retry(request=request, reason=Retry("later", exc=ValueError("no funds"), when=1))

    assert bench.heard() == ["step.retried"]
    [event] = bench.got
    error = event.execution_result.error
    assert error is not None
    assert (error.type, error.message, error.retryable) == ("ValueError", "no funds", True)
    assert (event.metadata.step_uuid, event.metadata.task_uuid, event.metadata.fired_by) == ("task-1", "root-1", "worker@host")
    assert event.execution_result.metadata["attempt"] == 2


def test_a_retry_that_names_no_error_is_told_as_such(bench: Bench) -> None:
    bench.retry(request=Context(id="task-1"), reason=Retry("later"))

    assert bench.heard() == ["step.retried"]
    assert bench.got[0].payload == {"error_code": "Retry", "reason": "the task asked to be retried"}


def test_the_same_retry_told_twice_is_published_once_and_the_next_try_again(bench: Bench) -> None:
    for retries in (0, 0, 1):
        bench.retry(request=Context(id="task-1", retries=retries), reason=Retry(exc=ValueError()))

    assert bench.heard() == ["step.retried", "step.retried"]


def test_retries_and_the_final_failure_of_one_step_are_all_told(bench: Bench) -> None:
    bench.retry(request=Context(id="task-1", retries=0), reason=Retry(exc=ValueError()))
    bench.fail("task-1")

    assert bench.heard() == ["step.retried", "step.failed"]


def test_a_failure_is_remembered_among_a_thousand_others_and_then_forgotten(new_shop: NewShop) -> None:
    bench = Bench(new_shop(tasker_events_deduplication_cache_size=0))
    for number in range(1000):
        bench.fail(f"task-{number}")
        if number % 100 == 0:
            bench.heard()
    bench.fail("task-0")
    assert len(bench.heard()) == 1000

    bench.fail("task-1000")
    bench.fail("task-0")

    assert len(bench.heard()) == 1002


class Stranger:
    name = "not.ours"


@pytest.mark.parametrize("sender", [None, "a name", Stranger()], ids=["nobody", "text", "stranger"])
@pytest.mark.parametrize("signal", [signals.task_success, signals.task_failure, signals.task_retry, signals.task_prerun])
def test_a_signal_with_nothing_in_it_is_no_error_of_ours(bench: Bench, signal: Any, sender: Any) -> None:
    responses = signal.send(sender=sender)

    # Celery hands back what a receiver raised. Other tests' plugins may still be there to be collected.
    assert {response for receiver, response in responses if receiver.__module__.startswith("celery_tasker_events")} == {None}
    assert bench.heard() == []


def test_an_error_inside_of_the_plugin_is_logged_and_does_not_reach_the_task(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(publication: Any) -> bool:
        raise SystemExit(3)

    monkeypatch.setattr(bench.events, "put", fail)

    assert bench.task.apply().state == "SUCCESS"
    bench.fail()
    bench.retry(request=Context(id="task-1"), reason=Retry(exc=ValueError()))
    told = [record for record in caplog.records if "the task is not affected" in record.getMessage()]
    assert len(told) == 3


@pytest.mark.parametrize("signal", [signals.worker_process_shutdown, signals.worker_shutdown])
def test_the_end_of_a_worker_waits_until_all_is_delivered(bench: Bench, signal: Any) -> None:
    for _ in range(50):
        bench.task.apply()

    signal.send(sender=None)

    assert [event.event_name for event in bench.got] == ["step.succeeded"] * 50


def test_a_worker_refuses_to_start_with_an_error_that_the_command_line_shows_plainly(shop: Shop) -> None:
    app, _ = shop

    @app.task(name="pay")
    @publishes_events("a.b")
    def pay() -> None: ...

    [step] = [step for step in app.steps["worker"] if step.name == "celery_tasker_events"]

    with pytest.raises(click.ClickException, match="celery_tasker_events can't start:\ntasker_events_dsn: durable events"):
        step(None)


def test_a_worker_starts_where_nothing_is_wrong_and_sums_up_its_processes_until_its_end(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "PLACES", (str(tmp_path),))
    [step] = [step for step in bench.app.steps["worker"] if step.name == "celery_tasker_events"]

    step(SimpleNamespace())

    bench.task.apply()
    assert bench.heard() == ["step.succeeded"]
    assert bench.events.totals().is_complete
    assert {(s.name, s.delivery_mode) for s in bench.events.totals().events} == {("dispatched", "fast")}
    assert len(list(tmp_path.iterdir())) == 1
    signals.worker_shutdown.send(sender=None)
    assert list(tmp_path.iterdir()) == []


def revoke(bench: Bench, **kwargs: Any) -> None:
    request = Context(id="task-1", root_id="root-1", retries=1, args=[1], kwargs={}, hostname="worker@host")
    signals.task_revoked.send(sender=bench.task, request=request, **{"terminated": True, "expired": False, **kwargs})


@pytest.mark.parametrize("signum", [15, "-15"], ids=["number", "what billiard found"])
def test_a_terminated_step_is_a_permanent_failure_that_names_the_signal(bench: Bench, signum: Any) -> None:
    revoke(bench, signum=signum)

    assert bench.heard() == ["step.failed"]
    [event] = bench.got
    error = event.execution_result.error
    assert error is not None
    assert (error.type, error.message, error.retryable) == ("TaskRevokedError", "terminated by SIGTERM", False)
    assert (event.metadata.step_uuid, event.metadata.task_uuid, event.metadata.fired_by) == ("task-1", "root-1", "worker@host")
    assert event.execution_result.metadata["attempt"] == 2


def test_a_terminated_step_is_told_once_however_often_the_main_process_finds_it_gone(bench: Bench) -> None:
    revoke(bench, signum=15)
    revoke(bench, signum="-15")
    bench.fail()

    assert bench.heard() == ["step.failed"]


@pytest.mark.parametrize("expired", [False, True], ids=["revoked", "expired"])
def test_a_step_that_was_revoked_before_it_ran_has_no_outcome(bench: Bench, expired: bool) -> None:
    revoke(bench, terminated=False, signum=None, expired=expired)

    assert bench.heard() == []


@pytest.mark.parametrize("signum", [os_signals.SIGUSR1, os_signals.SIGINT], ids=lambda signum: signum.name)
def test_a_signal_that_the_child_survives_leaves_the_outcome_to_it(bench: Bench, signum: os_signals.Signals) -> None:
    revoke(bench, signum=signum)

    assert bench.heard() == []


class Received:
    """What Celery's main process keeps of a message, as far as it matters here."""

    def __init__(self, task: Task) -> None:
        self.id, self.task = "task-1", task
        self.request_dict = {"id": "task-1", "root_id": "root-1", "retries": 1, "correlation_id": "order-7"}


def test_a_failure_that_comes_without_its_request_has_the_ids_of_the_message(bench: Bench) -> None:
    received = Received(bench.task)
    signals.task_received.send(sender=None, request=received)

    bench.fail("task-1", Reject("no", requeue=False))

    assert bench.heard() == ["step.failed"]
    [event] = bench.got
    assert event.metadata.task_uuid == "root-1"
    assert event.execution_result.metadata["attempt"] == 2


def test_a_message_is_not_kept_longer_than_celery_keeps_it(bench: Bench) -> None:
    received = Received(bench.task)
    signals.task_received.send(sender=None, request=received)
    kept = weakref.ref(received)

    del received

    assert kept() is None


def test_the_main_process_never_waits_for_a_confirmation(new_shop: NewShop, caplog: pytest.LogCaptureFixture) -> None:
    app, events = new_shop(
        tasker_events_dsn="postgresql://postgres@127.0.0.1:1/none",
        tasker_events_confirm_timeout_ms=3_600_000,
        tasker_events_shutdown_drain_timeout_ms=1,
    )

    @app.task(name="pay")
    @publishes_events("payment.failed", condition="permanent_failure", confirm=True)
    def pay() -> None: ...

    signals.task_failure.send(sender=app.tasks["pay"], task_id="task-1", exception=TimeLimitExceeded(1), args=[], kwargs={})

    events.close(0.01)
    assert "Not confirmed" not in caplog.text
