"""A task that tells of what it is given: what the tests of recorded events share."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task

from celery_tasker_events import DomainEvents, publishes_events

AMOUNT = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number"}}}

Shop = tuple[Celery, DomainEvents]


def payment(app: Celery, **fields: Any) -> Task:
    """A task that returns what it is given, and tells of it."""

    @app.task(shared=False, name="shop.pay")
    @publishes_events("payment.processed", namespace="payments", **fields)
    @publishes_events("payment.failed", namespace="payments", condition="failure", delivery_mode="fast")
    def pay(payload: Any) -> Any:
        if payload is None:
            raise ValueError("nothing to pay")
        return payload

    return pay
