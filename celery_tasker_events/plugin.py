"""DomainEvents: the one object that a user adds to a Celery app; it wires everything below together."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from celery_tasker_events import start_up
from celery_tasker_events.binding import BoundEvent, BoundStep
from celery_tasker_events.building import Publication
from celery_tasker_events.bus.registry import Handler, SubscriberRegistry, shared_subscriptions
from celery_tasker_events.bus.subscriber import BaseSubscriber
from celery_tasker_events.by_hand import PublishesByHand
from celery_tasker_events.catalog import Catalog
from celery_tasker_events.censoring import hide_dsn
from celery_tasker_events.declaration import DeclarationError, EventDeclaration, decorated
from celery_tasker_events.errors import ConfigurationError, Problem
from celery_tasker_events.forking import ForkLock
from celery_tasker_events.orphans import close_orphans
from celery_tasker_events.process import ProcessRuntime
from celery_tasker_events.publisher import BasePublisher, PublisherRegistry, register_all
from celery_tasker_events.scraping.endpoint import MetricsEndpoint
from celery_tasker_events.settings import PREFIX, Settings
from celery_tasker_events.signals import SignalReceiver
from celery_tasker_events.task_options import TaskOptions, heed_step_options
from celery_tasker_events.telemetry.counters import Series
from celery_tasker_events.telemetry.json_log import write_as_json
from celery_tasker_events.telemetry.log import logger
from celery_tasker_events.telemetry.tally import Tally
from celery_tasker_events.telemetry.totals import Totals
from celery_tasker_events.workflows import SendsWorkflows, import_canvas

if TYPE_CHECKING:
    from celery import Celery, Task

    from celery_tasker_events.bus.stream import EventStream
    from celery_tasker_events.diversion import Diversion
    from celery_tasker_events.record import EventReference
    from celery_tasker_events.runtime import Runtime

__all__ = ["DomainEvents", "attached_plugins"]

H = TypeVar("H", bound=Handler)
S = TypeVar("S", bound=BaseSubscriber)

#: Attribute of a Celery app: its plugin.
_ATTRIBUTE = "_tasker_events"


class DomainEvents(PublishesByHand, SendsWorkflows):
    """Publishes the declared domain events of a Celery app's tasks.

    Args:
        app: The Celery app, or None to give it later with :meth:`init_app`.
        apply_step_options: What ``tasker_events_apply_step_options`` is where the app's configuration does not say.

    Nothing is read, connected or started before the app is finalized, and nothing in a process that publishes nothing.
    """

    def __init__(self, app: Celery | None = None, *, apply_step_options: bool = False) -> None:
        self._subscribers = SubscriberRegistry(parent=shared_subscriptions)
        self._publishers = PublisherRegistry()
        self._lock = ForkLock()
        self._process = ProcessRuntime(self._make_runtime, self._drain_timeout, self._lock)
        self._settings: Settings | None = None
        self._catalog: Catalog | None = None
        #: Where this process counts, for the signals.
        self.tally = Tally()
        #: What the signals have asked for, by the task's identity: its ``app`` is a property, and it may have an ``__eq__``.
        #: It is here and not with them: it leads back to the app, which what the interpreter's end knows must not keep.
        self.known_steps: dict[int, tuple[Task, BoundStep]] = {}
        self._declared: list[EventDeclaration] = []
        self._metrics = MetricsEndpoint()
        self._defaults = {f"{PREFIX}apply_step_options": apply_step_options}
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Celery) -> None:
        """Attach to a Celery app.

        Raises:
            ConfigurationError: if this object or the app is attached already.
        """
        if hasattr(self, "app") or hasattr(app, _ATTRIBUTE):
            raise ConfigurationError(f"{app!r} and DomainEvents are attached to each other once only")
        self.app = app
        # The app keeps its plugin, and nothing else does: both go together when nobody uses them any more.
        setattr(app, _ATTRIBUTE, self)
        _plugins.add(self)
        app.add_defaults(self._defaults)
        self._receiver = SignalReceiver(self)
        self._receiver.connect()
        heed_step_options(app)
        hide_dsn()
        close_orphans()

    @classmethod
    def of(cls, app: Celery) -> DomainEvents:
        """Return the plugin of an app.

        Raises:
            ConfigurationError: if the app has none.
        """
        plugin = getattr(app, _ATTRIBUTE, None)
        if not isinstance(plugin, cls):
            raise ConfigurationError(f"{app!r} has no domain events: add DomainEvents(app) where the app is made")
        return plugin

    @property
    def settings(self) -> Settings:
        """The app's settings, read from its configuration once.

        Raises:
            ConfigurationError: if one is wrong.
        """
        with self._lock:
            if self._settings is None:
                self._settings = Settings.from_conf(self.app.conf, self.app.namespace or "")
            return self._settings

    @property
    def catalog(self) -> Catalog:
        """What is declared, compiled when it is first needed; that finalizes the app.

        Raises:
            ConfigurationError: if a setting is wrong.
        """
        with self._lock:
            if self._catalog is None:
                if not (self.app.finalized or self.app.autofinalize):
                    raise ConfigurationError(f"{self.app!r} is not finalized, and does not do so by itself: call app.finalize()")
                self._catalog = self.compile(self.settings)
            return self._catalog

    def compile(self, settings: Settings) -> Catalog:
        """Compile what would be declared with these settings: other templates than the configured ones, say.

        Raises:
            ConfigurationError: if a publisher of the settings can't be had.
        """
        problems = register_all(self._publishers, settings.publishers)
        if problems:
            raise ConfigurationError([Problem(problem, "tasker_events_publishers") for problem in problems])
        catalog = Catalog(self.app, settings, self._publishers, self._declared, self._lock, self._heed_starts)
        if settings.apply_step_options:
            options = TaskOptions(self.app.tasks, catalog.templates)
            catalog.problems += options.problems
            catalog.unbound += (problem for problem in options.unbound if problem not in catalog.unbound)
            catalog.warnings += options.warnings()
        return catalog

    def register_publisher(self, publisher: BasePublisher | type[BasePublisher]) -> None:
        """Make a custom publisher known by its name, before the app starts."""
        self._publishers.register(publisher)

    def subscribe(self, pattern: str) -> Callable[[H], H]:
        """Subscribe the decorated function to the fast and broadcast events of this app that match the pattern."""

        def decorate(handler: H) -> H:
            self._subscribers.add(pattern, handler)
            return handler

        return decorate

    def register_subscriber(self, subscriber: S | type[S]) -> S:
        """Subscribe a class derived from BaseSubscriber, or an object of one, to the events of this app.

        Returns:
            The object that gets the events.

        Raises:
            TypeError: if it is no subscriber, or can't be made without arguments.
            ValueError: if one of its patterns is bad.
        """
        return self._subscribers.register(subscriber)

    def unsubscribe(self, subscriber: object) -> bool:
        """Undo :meth:`subscribe` or :meth:`register_subscriber`; return whether it was subscribed in this app."""
        return self._subscribers.remove(subscriber)

    @property
    def subscribers(self) -> SubscriberRegistry:
        """The subscribers of this app, to be started, stopped and looked at."""
        return self._subscribers

    def stream(
        self, *patterns: str, buffer_size: int | None = None, on_lag: Callable[[int], object] | None = None
    ) -> EventStream:
        """Open a stream of the fast and broadcast events of this process that match one of the patterns.

        ``for event in events.stream("payment.*")`` and ``async for`` both work; the stream ends when it is closed, or this
        plugin is.

        Args:
            patterns: ``"*"``, every event, if none is given.
            buffer_size: How many events may wait for the reader; by default ``tasker_events_broadcast_buffer_size``.
            on_lag: Called in the reader's thread with the number of events that it has lost since it was last told.

        Raises:
            ValueError: if a pattern or the size is bad.
            ConfigurationError: if ``tasker_events_ffi_integration_enabled`` is off.
        """
        if not self.settings.ffi_integration_enabled:
            switch = "tasker_events_ffi_integration_enabled"
            raise ConfigurationError([Problem("event streams are switched off: set it to True to read one", switch)])
        return self._current_runtime().streams.open(patterns or ("*",), buffer_size, on_lag)

    def counters(self) -> Mapping[Series, int]:
        """What this process has counted so far."""
        return self._current_runtime().counters.snapshot()

    def totals(self) -> Totals:
        """What all processes of this worker have counted so far, those that have ended included.

        Outside a worker, and where a worker's processes have no place in common: what this process has counted.

        Raises:
            OSError: if they can't be read.
        """
        return self.tally.totals()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all that this process accepted is committed and delivered. A subscriber can't: that is False at once.

        Args:
            timeout: Seconds; by default ``tasker_events_shutdown_drain_timeout_ms``.

        Returns:
            Whether all of it is.
        """
        return self._process.drain(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Drain, then end this process' threads and connections, and flush OpenTelemetry; a later event starts new ones.

        Whoever closes at the same time waits for the same end. From a subscriber or a publisher's hook it is False at once,
        as these can't wait for themselves, and another thread does it.

        Args:
            timeout: Seconds; by default ``tasker_events_shutdown_drain_timeout_ms``.

        Returns:
            Whether all that was accepted is committed and delivered.
        """
        return self._process.close(timeout)

    def _declare(self, declaration: EventDeclaration) -> None:
        with self._lock:
            if any(declaration.name == other.name for other in self._declared):
                raise DeclarationError([("name", f"event {declaration.name!r} is declared by events.declare already")])
            self._declared.append(declaration)
            if self._catalog is not None:
                self._catalog.declare(declaration)

    def _heed_starts(self) -> None:
        self._receiver.starts.heed()

    # What the signals call.

    def end(self) -> None:
        """Close at the end of the interpreter: whoever publishes even later waits until it is done."""
        self._process.end()

    def step(self, task: Task) -> BoundStep:
        return (self._catalog or self.catalog).step(task)

    def needs_starts(self) -> bool:
        """Whether an event may need to know when its step began; before the app is finalized, that is not known."""
        return self._catalog is None or self._catalog.needs_starts or decorated.needs_starts

    def put(self, publication: Publication) -> bool:
        accepted = self._process.put(publication)
        if accepted and publication.confirmation is not None:
            timeout = self.settings.confirm_timeout_ms / 1000
            if self._process.dispatches_here():
                why = "Not confirmed, as a publisher's hook can't wait for what it publishes itself"
            elif publication.confirmation.wait(timeout):
                return True
            else:
                why = f"Not confirmed within {timeout:g} s"
            names = ", ".join(event.declaration.name for event in publication.events if event.confirm)
            outcome = publication.outcome
            extra = {"task_uuid": outcome.task_uuid, "correlation_id": outcome.correlation_id}
            logger.warning("%s: %s; what is accepted goes on its way", why, names, extra=extra)
        return accepted

    def check_worker(self) -> None:
        """Raise ConfigurationError with all that keeps the declared events from being published.

        A database that can't be reached is no reason not to start: that is logged, and events wait for it.
        """
        # Celery has set up the worker's logging by now, and its children inherit the handlers.
        self._set_up_logging()
        start_up.check(self.catalog, self.settings)
        if self.catalog.templates:
            import_canvas()
        self._publishers.freeze()
        start_up.make_ready(self.catalog, self.settings)

    def start_metrics(self) -> None:
        """Serve the metrics of all processes of this worker, if a port is set: for its main process."""
        self._metrics.start(self.settings, self.totals, start_up.declared_series(self.catalog))

    def stop_metrics(self) -> None:
        self._metrics.stop()

    def adopt(self) -> None:
        """Publish what processes that have died left in the spool; nothing is started if that is nothing."""
        if start_up.has_orphans(self.settings):
            self._current_runtime().adopt()

    def _current_runtime(self) -> Runtime:
        return self._process.current()

    def _make_runtime(self, diversion: Diversion | None) -> Runtime:
        # Imported here, with the lock held for which a fork waits: psycopg and the rest are for processes that publish.
        from celery_tasker_events.runtime import Runtime

        self._set_up_logging()
        # Weakly, as the threads of a runtime must not keep a plugin that nobody uses any more.
        find_plugin = weakref.ref(self)

        def find(reference: EventReference) -> BoundEvent:
            plugin = find_plugin()
            if plugin is None:
                raise ConfigurationError(f"the app that declared {reference.event_name!r} is gone")
            return plugin.catalog.find(reference)

        return Runtime(self.settings, self._subscribers, find, self.tally.sheet, diversion)

    def _set_up_logging(self) -> None:
        if self.settings.log_format == "json":
            write_as_json()

    def _drain_timeout(self) -> float:
        try:
            settings = self.settings
        except ConfigurationError:  # told elsewhere; there is nothing to drain but what others hold
            settings = Settings()
        return settings.shutdown_drain_timeout_ms / 1000

    def _after_fork_in_child(self) -> None:
        self.tally.after_fork_in_child()
        self._metrics.after_fork_in_child()


_plugins: weakref.WeakSet[DomainEvents] = weakref.WeakSet()


def attached_plugins() -> list[DomainEvents]:
    """Return those of this process' apps that have them."""
    return list(_plugins)


def _after_fork_in_child() -> None:
    for plugin in list(_plugins):
        plugin._after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
