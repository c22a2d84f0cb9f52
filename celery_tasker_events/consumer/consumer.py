"""Consumer: the object that a program makes to handle the durable events of one namespace or several."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, TypeVar

from celery_tasker_events.bus.pattern import patterns_of
from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.engine import Engine
from celery_tasker_events.consumer.failing import Backoff, ExponentialBackoff
from celery_tasker_events.consumer.handling import Handler, Handling
from celery_tasker_events.consumer.idempotency import IdempotencyStore
from celery_tasker_events.consumer.iterating import iterate
from celery_tasker_events.consumer.lease import Leases
from celery_tasker_events.consumer.options import OnSuccess, Options, Unmatched, check_dsn, queues_of
from celery_tasker_events.consumer.reading import Reader
from celery_tasker_events.consumer.statistics import Statistics
from celery_tasker_events.consumer.stopping import stopped_by_signals, wait_interruptibly
from celery_tasker_events.consumer.waiting import Waiting
from celery_tasker_events.consumer.workers import Coroutines, start_workers
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.log import logger

__all__ = ["Consumer"]

H = TypeVar("H", bound=Callable[..., Any])

#: Seconds that cancelled coroutines, and the settlement of what they were about, may take.
GRACE = 2.0


class Consumer:
    """Reads durable events from PGMQ and hands each to the handlers that it is for; needs no Celery app.

    Delivery is at least once: an event whose handler has returned comes again if the process, or Postgres, ends before that
    is committed. See the reference page for what is promised with which option.

    Args:
        dsn: libpq connection string or URI of the database with PGMQ.
        namespaces_or_queues: Such as ``"payments"``, or ``"payments_domain_events"`` for the same.
        name: Tells consumers apart in an idempotency store and in dead letters.
        concurrency: How many events are handled at the same time, each on a thread of its own. Coroutines share one loop.
        visibility_timeout: Whole seconds after which an event comes again whose consumer has died. While a handler runs,
            its time is extended.
        max_attempts: After how many attempts an event becomes a dead letter.
        backoff: Seconds to wait after an attempt, by its number: a function, by default an :class:`ExponentialBackoff`.
        on_success: What becomes of an event that was handled: ``"delete"`` or ``"archive"``.
        unmatched: What becomes of an event that no handler is for: ``"archive"``, ``"delete"`` or ``"dead_letter"``.
        ordered: Whether the events of each workflow are handled one after the other, as they were committed. Workflows go on
            beside each other.
        store: Remembers what handlers have seen, so that they see it once; by default nothing does.
        poll_interval: Seconds between two looks into the queues where PGMQ does not notify.
        listen: Whether to listen where PGMQ notifies; not through a pooler in transaction mode.
        batch_size: How many events are held at most: handled, or waiting for it in memory.
        shutdown_timeout: Seconds that handlers may take to end after a stop.

    Raises:
        ConfigurationError: if one of them is wrong.
    """

    def __init__(
        self,
        dsn: str,
        *namespaces_or_queues: str,
        name: str = "consumer",
        concurrency: int = 1,
        visibility_timeout: int = 30,
        max_attempts: int = 5,
        backoff: Backoff | None = None,
        on_success: OnSuccess = "delete",
        unmatched: Unmatched = "archive",
        ordered: bool = True,
        store: IdempotencyStore | None = None,
        poll_interval: float = 1.0,
        listen: bool = True,
        batch_size: int = 500,
        shutdown_timeout: float = 30.0,
    ) -> None:
        check_dsn(dsn)
        self._dsn = dsn
        self._queues = queues_of(namespaces_or_queues)
        self._options = Options(
            name=name,
            concurrency=concurrency,
            visibility_timeout=visibility_timeout,
            max_attempts=max_attempts,
            backoff=ExponentialBackoff() if backoff is None else backoff,
            on_success=on_success,
            unmatched=unmatched,
            ordered=ordered,
            store=store,
            poll_interval=poll_interval,
            listen=listen,
            batch_size=batch_size,
            shutdown_timeout=shutdown_timeout,
        )
        self._handlers: list[Handler] = []
        self._statistics = Statistics()
        self._engine: Engine | None = None
        self._stop_requested = False
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()

    @property
    def queues(self) -> tuple[str, ...]:
        """Names of the PGMQ queues that it reads."""
        return self._queues

    def on(self, *patterns: str, name: str | None = None, with_delivery: bool = False) -> Callable[[H], H]:
        """Register a handler: a function or an ``async def``, called with each event that one of the patterns matches.

        A handler that returns has handled the event. One that raises is called again later, with the same event;
        :class:`RetryLater` says when, :class:`Rejected` says never.

        Args:
            patterns: As for subscribers: ``"payment.*"``, ``"*"`` for every event.
            name: What an idempotency store knows it by; by default its module and qualified name.
            with_delivery: Whether to call it with the event and its :class:`Delivery`.

        Raises:
            ConfigurationError: if one is no pattern, or if a store could not tell it from another handler.
        """
        try:
            checked = patterns_of(patterns)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

        def register(function: H) -> H:
            handler_name = name or f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"
            if self._options.store is not None and any(handler.name == handler_name for handler in self._handlers):
                raise ConfigurationError(f"there is a handler {handler_name!r} already: give one of them another name=")
            self._handlers.append(Handler(handler_name, checked, function, with_delivery))
            return function

        return register

    def run(self, *, until_empty: bool = False) -> None:
        """Handle events until :meth:`stop`, or in the main thread until SIGTERM or SIGINT; a second signal waits for nobody.

        Args:
            until_empty: Return when there is nothing left to read and nothing to try again.

        Raises:
            ConfigurationError: if there are no handlers, or PGMQ can't do what is asked for.
            DatabaseNotReady: if the database has no PGMQ, or one that is too old.
        """
        with stopped_by_signals(self.stop, self._abandon):
            self._run(Coroutines(), until_empty=until_empty)

    async def run_async(self, *, until_empty: bool = False) -> None:
        """As :meth:`run`, inside a running event loop: coroutines run there, and cancelling this stops the consumer."""
        coroutines = Coroutines(asyncio.get_running_loop())
        running = asyncio.ensure_future(asyncio.to_thread(self._run, coroutines, until_empty=until_empty))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            self.stop()
            await running
            raise

    def stop(self) -> None:
        """Take no more events; those that are being handled are settled. From any thread, and from a handler."""
        with self._lock:
            self._stop_requested = True
            if self._engine is not None:
                self._engine.stop()

    def close(self) -> None:
        """Stop, and wait until nothing runs any more; not from a handler."""
        if not self._idle.is_set():
            self.stop()
            self._idle.wait(self._options.shutdown_timeout + GRACE)

    def statistics(self) -> dict[str, int]:
        """What was done since the consumer was made.

        ``received``: messages read; then, once committed: ``handled``, ``retried``, ``dead_lettered``, ``duplicates``,
        ``unmatched``, ``given_back``; ``unsettled``: given up; ``lost_leases``; ``in_progress``: being handled now.
        """
        engine = self._engine
        return {**self._statistics.snapshot(), "in_progress": 0 if engine is None else engine.in_progress}

    def __iter__(self) -> Iterator[DomainEvent]:
        """Iterate over the events until :meth:`stop`, one after the other; handlers are not called.

        An event is settled as handled when the next one is asked for. If the loop is left before, by ``break`` or by an
        error, it comes again.
        """
        with contextlib.closing(self.deliveries()) as deliveries:
            for delivery in deliveries:
                yield delivery.event

    def deliveries(self, *, until_empty: bool = False) -> Generator[Delivery, None, None]:
        """As iterating over the consumer, with all that is known of each event's message."""
        with self._running(concurrency=1, until_empty=until_empty) as engine:
            yield from iterate(engine, Handling(self._options, (), Coroutines().wait, engine.stopping))

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def run_workers(self, start: Callable[[Engine], None], *, until_empty: bool = False) -> None:
        """As :meth:`run`, with threads of the caller's own that take messages from the engine and settle them."""
        with stopped_by_signals(self.stop, self._abandon):
            self._serve(start, _nothing, until_empty=until_empty)

    def _run(self, coroutines: Coroutines, *, until_empty: bool) -> None:
        if not self._handlers:
            raise ConfigurationError("the consumer has no handlers: register one with @consumer.on('payment.*')")

        def start(engine: Engine) -> None:
            handling = Handling(self._options, tuple(self._handlers), coroutines.wait, engine.stopping)
            start_workers(engine, handling, self._options.concurrency)

        try:
            self._serve(start, coroutines.cancel, until_empty=until_empty)
        finally:
            coroutines.close()

    def _serve(self, start: Callable[[Engine], None], cancel: Callable[[], None], *, until_empty: bool) -> None:
        with self._running(self._options.concurrency, until_empty=until_empty) as engine:
            start(engine)
            wait_interruptibly(engine.stopping)
            if not wait_interruptibly(engine.ended, self._options.shutdown_timeout):
                cancel()
                engine.ended.wait(GRACE)

    @contextlib.contextmanager
    def _running(self, concurrency: int, *, until_empty: bool) -> Iterator[Engine]:
        """Own a running engine; afterwards nothing of it is left, and what has ended it is raised."""
        engine = self._begin(concurrency, until_empty=until_empty)
        try:
            engine.start()
            yield engine
        finally:
            engine.stop()
            if not engine.ended.wait(GRACE):
                engine.abandon()
                logger.warning(
                    "The consumer ends without %d events that are still being handled: they come again", engine.in_progress
                )
            with self._lock:
                self._engine = None
                self._stop_requested = False
            self._idle.set()
        if engine.error is not None:
            raise engine.error

    def _begin(self, concurrency: int, *, until_empty: bool) -> Engine:
        with self._lock:
            if self._engine is not None:
                raise RuntimeError("this consumer runs already; one that runs beside it is another Consumer")
            options = self._options
            engine = Engine(
                self._dsn,
                Reader(self._queues, options.visibility_timeout, ordered=options.ordered),
                Leases(options.visibility_timeout),
                Waiting(self._dsn, self._queues, options.poll_interval, listen=options.listen),
                options.store,
                self._statistics,
                concurrency=concurrency,
                batch_size=options.batch_size,
                until_empty=until_empty,
            )
            if self._stop_requested:
                engine.stop()
            self._engine = engine
            self._idle.clear()
            return engine

    def _abandon(self) -> None:
        engine = self._engine
        if engine is not None:
            engine.abandon()


def _nothing() -> None:
    pass
