"""A FastAPI service that publishes domain events: ``uvicorn main:api --workers 2``."""

import asyncio
import os
from contextlib import asynccontextmanager

from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel

from celery_tasker_events import DomainEvents

app = Celery("shop")
app.conf.tasker_events_dsn = os.environ.get("DATABASE_URL", "postgresql://localhost/shop")
app.conf.tasker_events_namespace = "shop"
events = DomainEvents(app)


class Order(BaseModel):
    order: int
    item: str


order_placed = events.declare("order.placed", Order, delivery_mode="broadcast")

placed = {}


@events.subscribe("order.placed")
def count(event):
    placed[event.payload["item"]] = placed.get(event.payload["item"], 0) + 1


@asynccontextmanager
async def lifespan(_):
    # Reads the settings and the templates now, not with the first request.
    events.catalog  # noqa: B018
    yield
    # Waits, in a thread of its own, until all that was accepted is committed.
    await asyncio.to_thread(events.close)


api = FastAPI(lifespan=lifespan)


@api.post("/orders", status_code=202)
async def place(order: Order):
    return {"event_id": events.publish(order_placed, order), "process": os.getpid()}


@api.post("/orders/confirmed", status_code=201)
async def place_and_wait(order: Order):
    event_id = await asyncio.to_thread(events.publish, order_placed, order, confirm=True)
    return {"event_id": event_id, "process": os.getpid()}


@api.get("/placed")
async def show_placed():
    return placed
