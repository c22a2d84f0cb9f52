"""What one process owns: the channel, the threads, the buffers and the pool. A forked child makes its own."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping

from psycopg_pool import ConnectionPool

from celery_tasker_events import envelope
from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.bus.bus import InProcessBus
from celery_tasker_events.bus.registry import SubscriberRegistry
from celery_tasker_events.bus.streams import OpenStreams
from celery_tasker_events.dispatcher import Dispatcher
from celery_tasker_events.diversion import Diversion, DurableEnd
from celery_tasker_events.durable.databases import Databases
from celery_tasker_events.durable.pool import make_pool
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.durable.spool.place import spool_path
from celery_tasker_events.durable.spool.spool import Spool, WhenFull
from celery_tasker_events.durable.transaction import AsyncAdapter, SyncAdapter, adapter_of
from celery_tasker_events.durable.writer import DurableWriter
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.overflow import Overflow
from celery_tasker_events.pipeline import Pipeline, Publication
from celery_tasker_events.record import EventReference
from celery_tasker_events.router import Router
from celery_tasker_events.settings import Settings
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.gauge import Gauge
from celery_tasker_events.telemetry.sheet import Sheet
from celery_tasker_events.telemetry.telemetry import Telemetry
from celery_tasker_events.telemetry.totals import CONNECTION, DEPTH
from celery_tasker_events.threads import start_thread
from celery_tasker_events.transactional import TransactionalPublisher

__all__ = ["Runtime", "make_spools"]


class Runtime:
    """All moving parts of one process. Making it starts nothing: each part starts with its first event.

    Args:
        find: Finds a declared event again whose outcome waited on disk.
        sheet: Where they count.
        diversion: Stands at the ends of both paths, in tests; then there is no spool.
    """

    def __init__(
        self,
        settings: Settings,
        subscribers: SubscriberRegistry,
        find: Callable[[EventReference], BoundEvent],
        sheet: Sheet,
        diversion: Diversion | None = None,
    ) -> None:
        self.counters = Counters(sheet)
        self._settings = settings
        self._diversion = diversion
        self._sheet = sheet
        self._connection = Gauge(sheet, CONNECTION, read=lambda: self._durable.connection)
        spools = {} if diversion else make_spools(settings)
        self._durable: DurableEnd = diversion.durable(self.counters) if diversion else self._databases(spools)
        # Events for which all runs that they need, by identity: a look at each, for each publication, takes longer than the put.
        self._prepared: dict[int, tuple[BoundEvent, ...]] = {}
        self._closing = threading.Lock()
        self._drained: bool | None = None
        self._bus = self._make_bus(subscribers)
        self._telemetry = self._make_telemetry()
        form, limit = envelope.by_name(settings.envelope), settings.max_event_bytes
        self.transactional = TransactionalPublisher(form, self.counters, self._telemetry, limit)
        bus = diversion.bus(self._bus) if diversion else self._bus
        router = Router(bus, self._durable, form, self.counters, limit)
        on_failure = diversion.failed if diversion else None
        pipeline = Pipeline(router, self._durable, self.counters, self._telemetry, limit, on_failure)
        self._dispatcher = self._make_dispatcher(pipeline)
        # Outcomes belong to no database yet: any file will do, so that it is the same in all processes.
        self._overflow = self._make_overflow(next(iter(spools.values())), find) if spools else None

    def _make_bus(self, subscribers: SubscriberRegistry) -> InProcessBus:
        settings = self._settings
        return InProcessBus(
            subscribers,
            self.counters,
            buffer_size=settings.broadcast_buffer_size,
            timeout=settings.dispatch_timeout_ms / 1000,
            deduplication_size=settings.deduplication_cache_size,
            log_errors=settings.log_subscriber_errors,
            log_dropped=settings.log_dropped_events,
            on_depth=self._depth("broadcast", read=lambda: self._bus.depth()),
        )

    def _make_telemetry(self) -> Telemetry:
        channels = {
            "command": lambda: self._dispatcher.depth(),
            "durable": self._durable.depth,
            "broadcast": self._bus.depth,
        }
        keeps_durations = self._settings.metrics_port is not None
        return Telemetry(self.counters, channels, sheet=self._sheet, keeps_durations=keeps_durations)

    def _make_dispatcher(self, pipeline: Pipeline) -> Dispatcher:
        return Dispatcher(
            pipeline.publish,
            # A test may well publish faster than one thread follows, and nothing of it may be missing.
            sys.maxsize if self._diversion else self._settings.command_buffer_size,
            self.counters,
            log_dropped=self._settings.log_dropped_events,
            linger=self._settings.linger_ms / 1000,
            watch=self._durable.watch,
            on_depth=self._depth("command", "channel", read=lambda: self._dispatcher.channel_depth()),
        )

    def _make_overflow(self, spool: Spool, find: Callable[[EventReference], BoundEvent]) -> Overflow:
        dispatcher = self._dispatcher
        overflow = Overflow(
            spool,
            self._settings.durable_buffer_size,
            find,
            self._durable,
            dispatcher.wake,
            dispatcher.drop,
            dispatcher.drop_stored,
            self._depth("command", "overflow", read=lambda: overflow.depth()),
        )
        dispatcher.set_overflow(overflow)
        return overflow

    @property
    def streams(self) -> OpenStreams:
        return self._bus.streams

    def put(self, publication: Publication) -> bool:
        """Hand a publication to the dispatcher without waiting; return whether it was accepted: never once this is closed."""
        try:
            if id(publication.events) not in self._prepared and not self._dispatcher.closed:
                self._prepare(publication)
            return self._dispatcher.put(self.stamped(publication))
        except RuntimeError:
            # Python's, for a thread that can't be started.
            self._dispatcher.drop(publication, "the interpreter ends")
            return False

    def stamped(self, publication: Publication) -> Publication:
        """Return the publication as it is, but for a diversion's clock."""
        return self._diversion.stamped(publication) if self._diversion else publication

    def adapter_of(self, connection: object) -> SyncAdapter | AsyncAdapter:
        """Return what writes with a connection of the user's.

        Raises:
            UnsupportedConnection: if nothing does.
        """
        return self._diversion.adapter(connection) if self._diversion else adapter_of(connection)

    @property
    def closed(self) -> bool:
        return self._dispatcher.closed

    @property
    def ended(self) -> bool:
        """Whether :meth:`close` has done its work."""
        return self._drained is not None

    def dispatches_here(self) -> bool:
        """Whether this is the dispatcher's own thread."""
        return self._dispatcher.runs_here()

    def runs_here(self) -> bool:
        """Whether one of the threads that work for this calls: a subscriber, or a publisher's hook."""
        return self.dispatches_here() or self._bus.runs_here()

    def adopt(self) -> None:
        """Publish what dead processes left in the spool."""
        self._durable.start()

    def wait_until_made(self, timeout: float) -> bool:
        """Wait up to that many seconds until all that was accepted is made into events; return whether it is."""
        return self._dispatcher.drain(timeout)

    def drain(self, timeout: float) -> bool:
        """Wait up to that many seconds until all that was accepted is committed and delivered; return whether it is.

        One of its own threads does not wait for itself: what it works on is not delivered yet.
        """
        if self.runs_here():
            return False
        deadline = time.monotonic() + timeout
        # Each part feeds the next, so the order matters; all share one deadline.
        drained = [
            part(max(0.0, deadline - time.monotonic())) for part in (self._dispatcher.drain, self._durable.drain, self._bus.drain)
        ]
        return all(drained)

    def close(self, timeout: float) -> bool:
        """Drain, then end the threads and the pool; return whether all was drained.

        Whoever closes at the same time waits for the same end. For one of its own threads, which it would wait for, another
        thread does it, and False is returned.
        """
        if self.runs_here():
            start_thread(lambda: self.close(timeout), "tasker-events-closing")
            return False
        deadline = time.monotonic() + timeout
        if not self._closing.acquire(timeout=timeout):
            return False
        try:
            if self._drained is None:
                self._drained = self._close(deadline)
            return self._drained
        finally:
            self._closing.release()

    def _close(self, deadline: float) -> bool:
        # A hard time limit leaves a child a tenth of a second: what waits is put in a safe place before anything else.
        self._dispatcher.save()
        self._durable.save()
        # Every part is closed, even if one before it did not drain in time.
        drained = [
            part(max(0.0, deadline - time.monotonic())) for part in (self._dispatcher.close, self._durable.close, self._bus.close)
        ]
        self._telemetry.close()
        return all(drained)

    def _adopt_outcomes(self) -> None:
        if self._overflow is not None:
            self._overflow.adopt()

    def _databases(self, spools: Mapping[str, Spool]) -> Databases:
        settings = self._settings
        writers = {dsn: self._writer(dsn, spools.get(dsn), number) for number, dsn in enumerate(settings.dsns)}
        by_namespace = {namespace: writers[dsn] for namespace, dsn in settings.namespace_dsns.items()}
        others = self._writer(None, None, len(writers)) if settings.dsn is None else writers[settings.dsn]
        return Databases(by_namespace, others)

    def _writer(self, dsn: str | None, spool: Spool | None, number: int) -> DurableWriter:
        settings = self._settings

        def pool() -> ConnectionPool[Connection]:
            if dsn is None:
                raise ConfigurationError("tasker_events_dsn names no database for a durable event that was published")
            return make_pool(dsn)

        writer = DurableWriter(
            pool,
            settings.durable_buffer_size,
            self.counters,
            log_dropped=settings.log_dropped_events,
            spool=spool,
            adopted=self._adopt_outcomes,
            # Its own depth only: it tells of it with its lock held, and two that asked each other would wait for ever.
            on_depth=self._depth("durable", str(number), read=lambda: writer.depth()),
            on_connection=self._connection.update,
        )
        return writer

    def _depth(self, *key: str, read: Callable[[], int]) -> Callable[[], None]:
        return Gauge(self._sheet, DEPTH, *key, read=read).update

    def _prepare(self, publication: Publication) -> None:
        """Start on the caller's thread what the publication needs: once the interpreter ends, Python 3.12 starts no thread."""
        reaches_bus = False
        for event in publication.events:
            mode = event.declaration.delivery_mode
            if mode.reaches_pgmq:
                self._durable.prepare(event.namespace)
            if mode.reaches_bus:
                self._bus.prepare(event.declaration.name)
                reaches_bus = True
        # Each step's events are one tuple for good; what is published by hand comes in a new one each time.
        if publication.event_id is None and (self._bus.started or not reaches_bus):
            self._prepared[id(publication.events)] = publication.events


def make_spools(settings: Settings) -> Mapping[str, Spool]:
    """Return the spool of each configured database, by DSN, not yet opened; there are none if spools are switched off."""
    if not settings.spool_max_bytes:
        return {}
    when_full = WhenFull(settings.spool_when_full)
    return {dsn: Spool(spool_path(dsn, settings.spool_dir), settings.spool_max_bytes, when_full) for dsn in settings.dsns}
