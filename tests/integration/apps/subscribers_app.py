"""An app for tests: subscribers of every kind, good and bad, and a stream that a thread of the worker reads.

Configured by the environment: SHOP_SETTINGS (JSON).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import threading
import time
from typing import Any

from celery import Celery, signals

from celery_tasker_events import (
    BaseSubscriber,
    DomainEvent,
    DomainEvents,
    LoggingSubscriber,
    MetricsSubscriber,
    publishes_events,
)

app = Celery("shop")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)


def _tell(what: str, event: DomainEvent) -> None:
    # A line of the worker's log is what a test can see of a subscriber in a child process.
    print(f"{what} {event.payload['order']} {event.event_id} in {os.getpid()}", flush=True)


@app.task(name="shop.pay")
@publishes_events("payment.processed", namespace="payments", delivery_mode="fast")
def pay(order: int) -> dict[str, int]:
    return {"order": order}


@app.task(name="shop.subscribe_late")
def subscribe_late() -> None:
    @events.subscribe("payment.*")
    def late(event: DomainEvent) -> None:
        _tell("late", event)


@app.task(name="shop.statistics")
def statistics() -> dict[str, Any]:
    assert events.drain(30)
    return {s.name.rpartition(".")[2]: dataclasses.asdict(s) for s in events.subscribers.statistics()}


@events.subscribe("payment.*")
def hang(event: DomainEvent) -> None:
    if event.payload["order"] == 1:
        time.sleep(60)


@events.subscribe("payment.*")
async def hang_async(event: DomainEvent) -> None:
    if event.payload["order"] == 1:
        try:
            await asyncio.sleep(60)
        finally:
            _tell("cancelled", event)


@events.subscribe("payment.*")
def fail(event: DomainEvent) -> None:
    raise RuntimeError("this function is broken")


@events.subscribe("payment.*")
async def fail_async(event: DomainEvent) -> None:
    await asyncio.sleep(0)
    raise SystemExit("this coroutine is broken")


@events.subscribe("payment.*")
async def hear_async(event: DomainEvent) -> None:
    await asyncio.sleep(0.01)
    _tell("heard asynchronously", event)


@events.register_subscriber
class Accountant(BaseSubscriber):
    def subscribes_to(self) -> list[str]:
        return ["payment.processed", "payment.*"]

    def before_handle(self, event: DomainEvent) -> bool:
        return bool(event.payload["order"] != 3)

    def handle(self, event: DomainEvent) -> None:
        _tell("accounted", event)
        if event.payload["order"] == 2:
            raise LookupError("no such account")

    def after_handle(self, event: DomainEvent) -> None:
        _tell("closed the books on", event)

    def on_handle_error(self, event: DomainEvent, error: BaseException) -> None:
        _tell(f"told of {type(error).__name__} about", event)


events.register_subscriber(LoggingSubscriber(prefix="[SHOP]"))
events.register_subscriber(MetricsSubscriber)


def _read_stream() -> None:
    for event in events.stream("payment.*"):
        _tell("read", event)
    print("the stream has ended", flush=True)


@signals.worker_process_init.connect
def _read_in_each_child(**_: Any) -> None:
    threading.Thread(target=_read_stream, daemon=True).start()


@signals.worker_ready.connect
def _read_in_the_only_process(sender: Any, **_: Any) -> None:
    if "prefork" not in type(sender.pool).__module__:
        # No daemon: the worker could not end if the stream did not.
        threading.Thread(target=_read_stream).start()
