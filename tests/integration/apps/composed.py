"""An app for tests: small tasks to compose canvases of, each of which tells how it ended."""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery, Task, chain, group

from celery_tasker_events import DomainEvents, publishes_events

app = Celery("composed")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)


@publishes_events("step.ended", namespace="steps", condition="always")
class Step(Task): ...


def step(name: str, **options: Any) -> Any:
    return app.task(name=f"composed.{name}", base=Step, **options)


@step("add")
def add(*numbers: Any) -> int:
    return sum(sum(number) if isinstance(number, list) else number for number in numbers)


@step("fail")
def fail(*_: Any) -> None:
    raise KeyError("gone")


@step("note")
def note(*numbers: int) -> int:
    events.publish("step.noted", list(numbers))
    return sum(numbers)


@step("note_failure")
def note_failure(request: Any, error: Any, traceback: Any) -> None:
    """Celery calls this like a function, as it takes more than the id of the task that failed."""
    events.publish("failure.noted", repr(error))


@step("hear_of_failure")
def hear_of_failure(task_id: str) -> str:
    """Celery sends this as a task, as it takes the id of the task that failed and nothing else."""
    return task_id


@step("become_a_chain", bind=True)
def become_a_chain(self: Task, number: int) -> Any:
    return self.replace(chain(add.s(number, 1), add.s(1)))


@step("become_a_group", bind=True)
def become_a_group(self: Task, number: int) -> Any:
    return self.replace(group(add.s(number, one) for one in (1, 2)))
