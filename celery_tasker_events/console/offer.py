"""Offer: what one console shows and allows, as the command that starts it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from celery_tasker_events.consumer.retrying import Remake
from celery_tasker_events.contract.entry import CatalogEntry

__all__ = ["Offer"]


@dataclass(frozen=True)
class Offer:
    """What one console shows and allows.

    Attributes:
        dsn: Where the events are.
        database: The same, as it may be shown.
        interval: Seconds between two looks at what the queues hold.
        entries: The declared events; None without an app.
        allow_actions: Whether it may replay events and retry dead letters; else it only looks.
        remake: Makes the event of a dead letter again; None without an app.
    """

    dsn: str = field(repr=False)
    database: str
    interval: float = 5.0
    entries: Sequence[CatalogEntry] | None = None
    allow_actions: bool = False
    remake: Remake | None = None
