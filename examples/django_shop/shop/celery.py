"""The Celery app and its domain events."""

import os
from dataclasses import dataclass

from celery import Celery

from celery_tasker_events import DomainEvents

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
events = DomainEvents(app)


@dataclass
class OrderPlaced:
    order: int
    item: str


order_placed = events.declare("order.placed", OrderPlaced, description="An order is in the books")
