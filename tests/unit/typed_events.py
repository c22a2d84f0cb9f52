"""What type checkers make of events that are declared by a class: checked by test_typing.py, never run."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from pydantic import BaseModel
from typing_extensions import TypedDict, assert_type

from celery_tasker_events import DomainEvents, EventType


class PaymentProcessed(BaseModel):
    amount: float


@dataclass
class PaymentFlagged:
    score: float


class Noted(TypedDict):
    text: str


async def publish(events: DomainEvents, connection: psycopg.Connection, async_connection: psycopg.AsyncConnection) -> None:
    processed = events.declare("payment.processed", PaymentProcessed)
    flagged = events.declare("payment.flagged", PaymentFlagged, namespace="fraud", delivery_mode="broadcast")
    noted: EventType[Noted] = events.declare("payment.noted", Noted)

    assert_type(processed, EventType[PaymentProcessed])
    assert_type(flagged, EventType[PaymentFlagged])
    assert_type(events.publish(processed, PaymentProcessed(amount=1)), str | None)
    assert_type(events.publish(flagged, PaymentFlagged(0.5), confirm=True), str | None)
    assert_type(events.publish(noted, Noted(text="ok")), str | None)
    assert_type(events.publish(flagged, PaymentFlagged(0.5), connection=connection), str | None)
    assert_type(await events.publish(flagged, PaymentFlagged(0.5), connection=async_connection), str | None)

    events.publish(processed, PaymentFlagged(0.5))  # type: ignore[misc]  # refused
    events.publish(processed, {"amount": 1})  # type: ignore[misc]  # refused
    events.publish(noted, PaymentProcessed(amount=1))  # type: ignore[misc]  # refused
    events.publish(flagged, PaymentFlagged(0.5), namespace="other")  # type: ignore[call-overload]  # refused
    events.publish(flagged, PaymentFlagged(0.5), connection=async_connection)  # type: ignore[unused-coroutine]  # refused
    events.declare("payment.flagged", {"type": "object"})  # type: ignore[arg-type]  # refused
