"""An app for tests: subscribers that hurt in every way, between two good ones.

Configured by the environment: SHOP_SETTINGS (JSON), HOSTILE: which kinds are there, separated by commas.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from celery import Celery

from celery_tasker_events import DomainEvent, DomainEvents, publishes_events

app = Celery("shop")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)

leaked: list[str] = []


@app.task(name="shop.pay")
@publishes_events("payment.processed", namespace="payments", delivery_mode="broadcast")
def pay(order: int) -> dict[str, int]:
    return {"order": order}


@app.task(name="shop.note")
@publishes_events("note.taken", namespace="notes")
def note(order: int) -> dict[str, int]:
    return {"order": order}


@app.task(name="shop.threads")
def threads() -> int:
    """How many threads of the bus are there."""
    assert events.drain(30)
    return sum(thread.name == "tasker-events-bus" for thread in threading.enumerate())


def _tell(what: str, event: DomainEvent) -> None:
    print(f"{what} {event.payload['order']} in {os.getpid()}", flush=True)


@events.subscribe("payment.*")
def first(event: DomainEvent) -> None:
    _tell("first heard", event)


def hang(event: DomainEvent) -> None:
    threading.Event().wait()


def exit_process(event: DomainEvent) -> None:
    raise SystemExit(3)


def interrupt(event: DomainEvent) -> None:
    raise KeyboardInterrupt


def end_generator(event: DomainEvent) -> None:
    raise GeneratorExit


def leak(event: DomainEvent) -> None:
    leaked.append("x" * 1_000_000)


def delay(event: DomainEvent) -> None:
    note.delay(event.payload["order"])


def publish(event: DomainEvent) -> None:
    events.publish("note.taken", {"order": event.payload["order"]}, namespace="notes", delivery_mode="durable")


def loop(event: DomainEvent) -> None:
    # It hears what it publishes, too.
    events.publish("payment.looped", {"order": 0}, namespace="payments", delivery_mode="fast")


def close(event: DomainEvent) -> None:
    events.close()


def fork(event: DomainEvent) -> None:
    # The child comes back into the bus, as one does that was meant to end itself.
    if child := os.fork():
        os.waitpid(child, 0)


KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (hang, exit_process, interrupt, end_generator, leak, delay, publish, loop, close, fork)
}
for name in os.environ["HOSTILE"].split(","):
    events.subscribe("payment.*")(KINDS[name])


@events.subscribe("payment.processed")
def last(event: DomainEvent) -> None:
    _tell("last heard", event)
