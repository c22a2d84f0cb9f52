"""A worker whose tasks write orders, each with its event in one transaction. ORDERING_DSN says where."""

from __future__ import annotations

import json
import os

import psycopg
from celery import Celery, Task

from celery_tasker_events import DomainEvents, publishes_events

app = Celery("ordering")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)


@app.task(bind=True, name="ordering.place")
@publishes_events("order.counted", namespace="shop", delivery_mode="fast")
def place(self: Task, number: int, *, fail: bool = False) -> str | None:
    with psycopg.connect(os.environ["ORDERING_DSN"]) as connection:
        connection.execute("insert into orders values (%s)", [number])
        event_id = events.publish("order.placed", {"order": number}, connection=connection)
        if fail:
            raise ValueError("sold out")
        return event_id
