"""The shop whose worker the smoke tests start, with ``celery -A app worker`` in this folder."""

import json
import os
from typing import Any

from celery import Celery
from celery.utils.log import get_logger

from celery_tasker_events import DomainEvent, DomainEvents, publishes_events

logger = get_logger("shop")

app = Celery("shop")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]), tasker_events_namespace="payments")
events = DomainEvents(app)


@app.task(name="shop.process_payment")
@publishes_events("payment.processed")
@publishes_events("payment.counted", delivery_mode="fast")
@publishes_events("payment.announced", delivery_mode="broadcast")
@publishes_events("payment.failed", condition="permanent_failure")
def process_payment(amount: int) -> dict[str, Any]:
    if amount <= 0:
        raise ValueError(f"{amount} is no amount to pay")
    return {"amount": amount, "currency": "EUR"}


@events.subscribe("payment.*")
def tell(event: DomainEvent) -> None:
    logger.info("Heard %s of %s", event.event_name, event.payload["amount"])
