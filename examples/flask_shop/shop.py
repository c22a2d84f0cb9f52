"""A Flask service that publishes domain events: ``gunicorn shop:app``, with gunicorn.conf.py beside it."""

import os
from dataclasses import dataclass

from celery import Celery
from flask import Flask, request

from celery_tasker_events import DomainEvents

celery = Celery("shop")
celery.conf.tasker_events_dsn = os.environ.get("DATABASE_URL", "postgresql://localhost/shop")
celery.conf.tasker_events_namespace = "shop"
events = DomainEvents()


@dataclass
class Opened:
    process: int


@dataclass
class OrderPlaced:
    item: str


opened = events.declare("shop.opened", Opened)
order_placed = events.declare("order.placed", OrderPlaced)


def create_app():
    app = Flask(__name__)
    events.init_app(celery)

    @app.post("/orders")
    def place():
        event_id = events.publish(order_placed, OrderPlaced(item=request.get_json()["item"]))
        return {"event_id": event_id, "process": os.getpid()}, 202

    return app


app = create_app()
