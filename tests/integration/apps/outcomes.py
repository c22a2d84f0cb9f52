"""An app for tests: tasks whose attempts end in ways that leave the worker alive, and come back."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject
from celery.signals import task_postrun

from celery_tasker_events import DomainEvents, publishes_events

app = Celery("outcomes")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)

EVERY_END = [
    {"name": f"step.{condition}", "namespace": "steps", "condition": condition}
    for condition in ("success", "retryable_failure", "permanent_failure")
]


@publishes_events(EVERY_END)
class Step(Task):
    """Its tasks inherit what is declared here."""


def step(name: str, **options: Any) -> Any:
    return app.task(name=f"outcomes.{name}", base=options.pop("base", Step), bind=True, **options)


@step("retries_itself", max_retries=2)
def retries_itself(self: Task, *, names_the_error: bool) -> None:
    raise self.retry(exc=KeyError("gone") if names_the_error else None, countdown=0.2)


@step("gives_up", autoretry_for=(Exception,), dont_autoretry_for=(KeyError,), default_retry_delay=0.2)
def gives_up(self: Task) -> None:
    raise KeyError("no use")


@step("recovers", autoretry_for=(ValueError,), max_retries=3, default_retry_delay=0.2)
def recovers(self: Task) -> int:
    if self.request.retries < 2:
        raise ValueError("not yet")
    return self.request.retries


@step("retries_and_goes_on", max_retries=1)
def retries_and_goes_on(self: Task) -> str:
    if self.request.retries == 0:
        self.retry(countdown=0.2, throw=False)
    return "done"


@step("is_given_back", acks_late=True)
def is_given_back(self: Task) -> str:
    events.publish("step.began", None)
    if not self.request.delivery_info["redelivered"]:
        raise Reject("not now", requeue=True)
    return "done"


@step("ignores_its_result", ignore_result=True)
def ignores_its_result(self: Task, *, fails: bool) -> str:
    if fails:
        raise KeyError("gone")
    return "nobody stores it"


@step("returns_what_no_backend_encodes")
def returns_what_no_backend_encodes(self: Task) -> object:
    return {"no": object()}


class Loud(Step):
    """Has callbacks of its own, and they raise."""

    def on_success(self, *_: Any) -> None:
        print(f"own on_success of {self.request.id}", flush=True)
        raise RuntimeError("on_success is broken")

    def on_failure(self, exc: BaseException, *_: Any) -> None:
        print(f"own on_failure of {self.request.id}: {exc!r}", flush=True)

    def on_retry(self, *_: Any) -> None:
        raise RuntimeError("on_retry is broken")


class BrokenOnFailure(Step):
    def on_failure(self, *_: Any) -> None:
        raise RuntimeError("on_failure is broken")


class Called(Step):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return {"called": super().__call__(*args, **kwargs)}


class Quiet(Step):
    """Has callbacks that end well, and a declaration more than its base."""

    def on_success(self, *_: Any) -> None:
        events.publish("step.noted", "on_success")

    def on_failure(self, *_: Any) -> None:
        events.publish("step.noted", "on_failure")


publishes_events("step.quiet", namespace="steps", condition="always")(Quiet)


@step("loud", base=Loud)
def loud(self: Task, *, fails: bool) -> str:
    return _maybe(fails)


@step("broken_on_failure", base=BrokenOnFailure)
def broken_on_failure(self: Task) -> None:
    raise KeyError("gone")


@step("called", base=Called)
def called(self: Task) -> str:
    events.publish("step.noted", "inside")
    return "run"


@step("quiet", base=Quiet)
def quiet(self: Task, *, fails: bool) -> str:
    return _maybe(fails)


def _maybe(fails: bool) -> str:
    if fails:
        raise KeyError("gone")
    return "done"


@step("counts_down")
def counts_down(self: Task, number: int) -> str:
    """Replaced by itself: the same id, the same name, the first attempt again."""
    events.publish("step.noted", number)
    if number == 2 and self.request.retries == 0:
        raise self.retry(countdown=0.2)
    if number:
        return self.replace(self.si(number - 1))
    if self.request.retries == 0:
        raise self.retry(countdown=0.2)
    return "zero"


@step("calls_another")
def calls_another(self: Task) -> None:
    inner()


@app.task(name="outcomes.inner")
@publishes_events("inner.ended", namespace="inside")
def inner() -> None:
    """Called like a function, it is part of its caller's step."""
    events.publish("step.noted", "by the inner one")
    child.delay()


@app.task(name="outcomes.child")
@publishes_events("child.ended", namespace="inside")
def child() -> None: ...


@step("survives", acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def survives(self: Task) -> dict[str, bool]:
    events.publish("step.noted", "first")
    events.publish("step.noted", "second")
    return {"redelivered": self.request.delivery_info["redelivered"]}


@task_postrun.connect
def end_before_the_acknowledgement(sender: Task, **_: Any) -> None:
    if sender.name == "outcomes.survives" and not sender.request.delivery_info["redelivered"]:
        events.drain(30)
        if os.environ.get("OUTCOMES_KILLS_WORKER"):
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
