"""What tests of a plugin in this process share: fast events, and a list that hears them."""

from __future__ import annotations

from typing import Any

from celery import Celery

from celery_tasker_events import DomainEvent, DomainEvents, publishes_events

LONG = 30.0

Shop = tuple[Celery, DomainEvents]


def listen(events: DomainEvents, pattern: str = "*") -> list[DomainEvent]:
    """Subscribe a list, and return it."""
    got: list[DomainEvent] = []
    events.subscribe(pattern)(got.append)
    return got


def fast(name: str, **fields: Any) -> Any:
    """Declare a fast event."""
    return publishes_events(name, delivery_mode="fast", **fields)


def pay_amount(amount: int = 1) -> dict[str, int]:
    return {"amount": amount}


def make_plain() -> Any:
    def step() -> None: ...

    return step
