"""An app for tests: payments that succeed, are retried or fail, with events for every condition and mode.

Configured by the environment: SHOP_SETTINGS (JSON), and SHOP_WITHOUT_PLUGIN, which leaves the plugin out.
"""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery, Task

from celery_tasker_events import BasePublisher, DomainEvent, DomainEvents, publishes_events

app = Celery("shop")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(None if os.environ.get("SHOP_WITHOUT_PLUGIN") else app)


class CardDeclined(Exception):
    error_code = "card_declined"


class RaisingPublisher(BasePublisher):
    def transform_payload(self, *args: Any) -> Any:
        raise RuntimeError("this publisher is broken")


class RichPublisher(BasePublisher):
    def transform_payload(self, step_result: Any, declaration: Any, context: Any) -> Any:
        return {"order": context.args[0], "attempt": context.attempt, "result": step_result.result}

    def additional_metadata(self, *args: Any) -> dict[str, str]:
        return {"payment_provider": "test"}


for publisher in (RaisingPublisher, RichPublisher):
    events.register_publisher(publisher)


@app.task(bind=True, max_retries=2, name="shop.pay")
@publishes_events("payment.processed", namespace="payments", delivery_mode="broadcast")
@publishes_events("payment.retried", namespace="payments", condition="retryable_failure", delivery_mode="broadcast")
@publishes_events("payment.failed", namespace="payments", condition="permanent_failure")
@publishes_events("payment.troubled", namespace="payments", condition="failure")
@publishes_events("payment.tried", namespace="audit", condition="always")
@publishes_events("payment.counted", namespace="payments", delivery_mode="fast")
@publishes_events("payment.enriched", namespace="payments", publisher="RichPublisher")
def pay(self: Task, order: int, *, fail_attempts: int = 0, decline: bool = False) -> dict[str, Any]:
    if decline:
        raise CardDeclined(f"order {order} was declined")
    if self.request.retries < fail_attempts:
        # With no delay at all, another child may end the next try before Celery has stored the state of this one.
        raise self.retry(exc=TimeoutError("the gateway is slow"), countdown=0.2)
    events.publish("payment.flagged", {"order": order})
    return {"order": order, "transaction_id": f"TXN-{order}"}


@app.task(name="shop.broken_publisher")
@publishes_events("broken.publisher", namespace="payments", publisher="RaisingPublisher", delivery_mode="broadcast")
@publishes_events("sound.publisher", namespace="payments")
def broken_publisher() -> str:
    return "done"


@app.task(name="shop.unserialisable", ignore_result=True)
@publishes_events("odd.result", namespace="payments", delivery_mode="broadcast")
def unserialisable() -> object:
    return object()


@app.task(name="shop.unencodable")
@publishes_events("odd.encoding", namespace="payments", condition="always")
def unencodable() -> object:
    return {"no": object()}


@app.task(name="shop.refused_by_postgres")
@publishes_events("odd.text", namespace="payments")
def refused_by_postgres() -> dict[str, str]:
    return {"text": "a\0b"}


@app.task(name="shop.violates_schema")
@publishes_events("odd.schema", namespace="payments", schema={"type": "object", "required": ["amount"]})
def violates_schema() -> dict[str, str]:
    return {"sum": "1"}


def _tell(what: str, event: DomainEvent) -> None:
    # A line of the worker's log is what a test can see of a subscriber in a child process.
    print(f"{what} {event.event_name} {event.event_id}", flush=True)


@events.subscribe("payment.*")
def hear(event: DomainEvent) -> None:
    _tell("heard", event)


@events.subscribe("*")
def fail_to_hear(event: DomainEvent) -> None:
    if os.environ.get("SHOP_SUBSCRIBER_RAISES"):
        raise SystemExit("this subscriber is broken")
