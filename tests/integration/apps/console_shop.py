"""An app with a payment that the console shows: what it declares, and what it makes again of a dead letter."""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery

from celery_tasker_events import DomainEvents, publishes_events

app = Celery("shop", broker="memory://")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)

TOTAL = {
    "type": "object",
    "required": ["total"],
    "properties": {"total": {"type": "integer", "minimum": 0, "description": "In cents"}},
}


@app.task(name="shop.pay")
@publishes_events(
    "payment.processed",
    namespace="payments",
    delivery_mode="broadcast",
    schema=TOTAL,
    version="2.0",
    description="An order is <b>paid</b>.",
)
@publishes_events("payment.failed", namespace="payments", condition="permanent_failure")
def pay(result: Any) -> Any:
    return result
