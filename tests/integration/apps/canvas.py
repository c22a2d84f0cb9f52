"""An app for tests: workflows of several tasks, and a task that two templates declare events for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from celery import Celery, chain, chord, group

from celery_tasker_events import DomainEvents, publishes_events

app = Celery("canvas")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
app.conf.tasker_events_templates = [str(Path(__file__).parent / "templates" / "*.yaml")]
app.conf.tasker_events_retryable = ["canvas.GatewayDown"]
events = DomainEvents(app)


class GatewayDown(Exception):
    """Somebody else tries again."""


@app.task(name="canvas.charge")
@publishes_events("charge.made", namespace="audit", condition="always")
def charge(amount: int) -> int:
    return amount


@app.task(name="canvas.refuse", tasker_events_retryable=(ConnectionError,))
@publishes_events("charge.delayed", namespace="audit", condition="retryable_failure")
@publishes_events("charge.refused", namespace="audit", condition="permanent_failure")
def refuse(kind: str) -> None:
    raise {"gateway": GatewayDown, "connection": ConnectionResetError, "other": ValueError}[kind](kind)


@app.task(name="canvas.flag")
def flag(score: float | None) -> list[str | None]:
    first = events.publish("payment.flagged", {"score": score})
    second = events.publish("payment.flagged", {"wrong": True})
    return [first, second]


@app.task
def close(charged: Any) -> Any:
    return charged


@app.task(name="canvas.start")
@publishes_events("order.started", namespace="audit")
def start(amounts: list[int]) -> None:
    """Send a chord and a chain, as children."""
    chord([charge.s(amount) for amount in amounts], close.s()).delay()
    chain(charge.s(1), close.s()).delay()
    group([charge.s(2)]).delay()
