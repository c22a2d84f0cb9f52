"""An app for tests: the steps of templates, each of which tells whose results it got."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery, Task

from celery_tasker_events import DomainEvents, publishes_events

app = Celery("workflows")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)


@publishes_events(
    [
        {"name": "step.ended", "namespace": "steps", "condition": "success"},
        {"name": "step.tried", "namespace": "steps", "condition": "retryable_failure"},
        {"name": "step.failed", "namespace": "steps", "condition": "permanent_failure"},
    ]
)
class Step(Task): ...


def who(result: Any) -> Any:
    return [who(one) for one in result] if isinstance(result, list) else result["step"] if isinstance(result, dict) else result


def run(self: Task, *results: Any, **given: Any) -> dict[str, Any]:
    return {"step": self.name.rpartition(".")[2], "got": who(list(results)), "given": given}


for number in range(20):
    app.task(name=f"workflows.s{number}", base=Step, bind=True)(run)


@app.task(name="workflows.refuse", base=Step)
def refuse() -> None:
    raise KeyError("gone")


@app.task(name="workflows.wait", base=Step)
def wait() -> None:
    time.sleep(60)


@app.task(name="workflows.give_up", base=Step, max_retries=1)
def give_up() -> None:
    raise KeyError("gone")
