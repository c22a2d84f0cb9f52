"""An app for tests: steps of one workflow whose end only the worker's main process sees."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from celery import Celery, Task

from celery_tasker_events import BasePublisher, DomainEvents, publishes_events

app = Celery("supervised")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)


class InputsPublisher(BasePublisher):
    """Tells what the step was called with, as only a process that has the message can."""

    def transform_payload(self, step_result: Any, declaration: Any, context: Any) -> Any:
        return {"args": context.args, "attempt": context.attempt}


events.register_publisher(InputsPublisher)

EVERY_CONDITION = [
    {"name": f"step.{condition}", "namespace": "steps", "condition": condition, "publisher": "InputsPublisher", "confirm": True}
    for condition in ("success", "failure", "retryable_failure", "permanent_failure", "always")
]


@app.task(name="supervised.start")
def start(options: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Send the other steps, as children of this one; return their ids."""
    return {
        label: app.tasks[f"supervised.{option.pop('task')}"].apply_async([label], **option).id
        for label, option in options.items()
    }


@app.task(name="supervised.sleep", bind=True)
@publishes_events(EVERY_CONDITION)
def sleep(self: Task, label: str) -> None:
    events.publish("sleep.began", label, namespace="begun", confirm=True)
    time.sleep(600)


@app.task(name="supervised.kill_itself")
@publishes_events(EVERY_CONDITION)
def kill_itself(label: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
