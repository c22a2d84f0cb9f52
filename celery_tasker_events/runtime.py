"""What one process owns: the channel, the threads, the buffers and the pool. A forked child makes its own."""

from __future__ import annotations

import time

from psycopg_pool import ConnectionPool

from celery_tasker_events import envelope
from celery_tasker_events.bus.bus import InProcessBus
from celery_tasker_events.bus.registry import SubscriberRegistry
from celery_tasker_events.bus.streams import OpenStreams
from celery_tasker_events.dispatcher import Dispatcher
from celery_tasker_events.durable.pool import make_pool
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.durable.writer import DurableWriter
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.pipeline import Pipeline, Publication
from celery_tasker_events.router import Router
from celery_tasker_events.settings import Settings
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.telemetry import Telemetry

__all__ = ["Runtime"]


class Runtime:
    """All moving parts of one process. Making it starts nothing: each part starts with its first event."""

    def __init__(self, settings: Settings, subscribers: SubscriberRegistry) -> None:
        self.counters = Counters()
        self._settings = settings
        self._durable = DurableWriter(
            self._make_pool, settings.durable_buffer_size, self.counters, log_dropped=settings.log_dropped_events
        )
        self._bus = InProcessBus(
            subscribers,
            self.counters,
            buffer_size=settings.broadcast_buffer_size,
            timeout=settings.dispatch_timeout_ms / 1000,
            deduplication_size=settings.deduplication_cache_size,
            log_errors=settings.log_subscriber_errors,
            log_dropped=settings.log_dropped_events,
        )
        self._telemetry = Telemetry(
            self.counters,
            {
                "command": lambda: self._dispatcher.depth(),
                "durable": self._durable.depth,
                "broadcast": self._bus.depth,
            },
        )
        router = Router(self._bus, self._durable, envelope.by_name(settings.envelope), self.counters)
        pipeline = Pipeline(router, self._durable, self.counters, self._telemetry)
        self._dispatcher = Dispatcher(
            pipeline.publish, settings.command_buffer_size, self.counters, log_dropped=settings.log_dropped_events
        )

    @property
    def streams(self) -> OpenStreams:
        return self._bus.streams

    def put(self, publication: Publication) -> bool:
        """Hand a publication to the dispatcher without waiting; return whether it was accepted."""
        return self._dispatcher.put(publication)

    def drain(self, timeout: float) -> bool:
        """Wait up to that many seconds until all that was accepted is committed and delivered; return whether it is."""
        deadline = time.monotonic() + timeout
        # Each part feeds the next, so the order matters; all share one deadline.
        drained = [
            part(max(0.0, deadline - time.monotonic())) for part in (self._dispatcher.drain, self._durable.drain, self._bus.drain)
        ]
        return all(drained)

    def close(self, timeout: float) -> bool:
        """Drain, then end the threads and the pool; return whether all was drained."""
        deadline = time.monotonic() + timeout
        # Every part is closed, even if one before it did not drain in time.
        drained = [
            part(max(0.0, deadline - time.monotonic())) for part in (self._dispatcher.close, self._durable.close, self._bus.close)
        ]
        self._telemetry.close()
        return all(drained)

    def _make_pool(self) -> ConnectionPool[Connection]:
        if self._settings.dsn is None:
            raise ConfigurationError("tasker_events_dsn is not set, but a durable event was published")
        return make_pool(self._settings.dsn)
