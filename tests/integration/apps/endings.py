"""An app for tests: tasks that end, or end their process, in ways that Celery tells about elsewhere than in the task."""

from __future__ import annotations

import json
import os
import signal
import time

from celery import Celery, Task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from celery_tasker_events import DomainEvents, publishes_events

app = Celery("endings")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)

EVERY_END = [
    {"name": f"step.{condition}", "namespace": "steps", "condition": condition}
    for condition in ("success", "retryable_failure", "permanent_failure")
]


@app.task(name="endings.burst")
@publishes_events(EVERY_END)
def burst(count: int) -> int:
    for number in range(count):
        events.publish("burst.noted", number, namespace="bursts")
    return count


@app.task(name="endings.too_long", time_limit=1)
@publishes_events(EVERY_END)
def too_long() -> None:
    time.sleep(60)


@app.task(name="endings.softly", soft_time_limit=1)
@publishes_events(EVERY_END)
def softly(*, caught: bool) -> str:
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        if not caught:
            raise
    return "just in time"


@app.task(name="endings.lost")
@publishes_events(EVERY_END)
def lost() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="endings.exits")
@publishes_events(EVERY_END)
def exits() -> None:
    events.publish("burst.noted", "before the exit", namespace="bursts")
    raise SystemExit(3)


@app.task(name="endings.ignored")
@publishes_events(EVERY_END)
def ignored() -> None:
    raise Ignore


@app.task(name="endings.rejected")
@publishes_events(EVERY_END)
def rejected() -> None:
    raise Reject("no", requeue=False)


@app.task(name="endings.replaced", bind=True)
@publishes_events(EVERY_END)
def replaced(self: Task) -> None:
    self.replace(burst.si(0))


@app.task(name="endings.thrower", throws=(KeyError,))
@publishes_events(EVERY_END)
def thrower() -> None:
    raise KeyError("expected")


@app.task(name="endings.retried", bind=True, autoretry_for=(ValueError,), max_retries=1, default_retry_delay=0.2)
@publishes_events(EVERY_END)
def retried(self: Task) -> None:
    raise ValueError("again")
