"""The shop of the day: each order is paid, at the second attempt now and then, and shipped.

Every event has two sides: namespace ``payments`` is read by a consumer, ``exports`` is forwarded to RabbitMQ.
Configured by the environment: SHOP_SETTINGS (JSON).
"""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery, Task

from celery_tasker_events import DomainEvents, publishes_events

app = Celery("shop")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)


def on_both_sides(name: str, **more: Any) -> Any:
    return publishes_events([{"name": name, "namespace": side, **more} for side in ("payments", "exports")])


class Declined(Exception):
    pass


@app.task(bind=True, max_retries=2, name="shop.pay")
@on_both_sides("payment.processed")
@on_both_sides("payment.retried", condition="retryable_failure")
@on_both_sides("payment.failed", condition="permanent_failure")
def pay(self: Task, order: int) -> dict[str, int]:
    if order % 50 == 0:
        raise Declined(f"order {order} was declined")
    if order % 10 == 0 and self.request.retries == 0:
        raise self.retry(exc=TimeoutError("the gateway is slow"), countdown=0.2)
    return {"order": order}


@app.task(name="shop.ship")
@on_both_sides("order.shipped")
def ship(paid: dict[str, int]) -> dict[str, int]:
    return paid
