"""Diversion: other ends for the events of a process than its databases and subscribers, for tests."""

from __future__ import annotations

from typing import Protocol

from celery_tasker_events.building import Draft, Publication
from celery_tasker_events.durable.transaction import AsyncAdapter, SyncAdapter
from celery_tasker_events.router import BusPath, DurablePath
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.gauge import ConnectionState

__all__ = ["Diversion", "DurableEnd"]


class DurableEnd(DurablePath, Protocol):
    """All that a process asks of its durable path; see :class:`.durable.databases.Databases`."""

    @property
    def connection(self) -> ConnectionState: ...
    def prepare(self, namespace: str) -> None: ...
    def start(self) -> None: ...
    def depth(self) -> int: ...
    def watch(self) -> float | None: ...
    def save(self) -> None: ...
    def drain(self, timeout: float) -> bool: ...
    def close(self, timeout: float) -> bool: ...


class Diversion(Protocol):
    """What stands at the ends of the ways that events go; all before them is as ever."""

    def durable(self, counters: Counters) -> DurableEnd:
        """Return what takes the durable events of one app.

        Args:
            counters: Where it counts.
        """

    def bus(self, bus: BusPath) -> BusPath:
        """Return what takes the events in the place of the subscribers' bus."""

    def adapter(self, connection: object) -> SyncAdapter | AsyncAdapter:
        """Return what writes in the place of a connection of the user's."""

    def stamped(self, publication: Publication) -> Publication:
        """Return the publication with the time and the place that it is to have."""

    def refused(self, event_name: str, error: BaseException) -> None:
        """An event was published by hand in a way that there is not."""

    def failed(self, draft: Draft, error: BaseException) -> None:
        """An event could not be published."""
