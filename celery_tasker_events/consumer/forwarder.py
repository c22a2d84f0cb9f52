"""Forwarder: publishes durable events to another system, and settles each when that system has confirmed it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from celery_tasker_events.bus.pattern import patterns_of
from celery_tasker_events.consumer.consumer import Consumer
from celery_tasker_events.consumer.engine import Engine
from celery_tasker_events.consumer.failing import Backoff, ExponentialBackoff
from celery_tasker_events.consumer.forwarding import Forwarding, Outage, Verdicts
from celery_tasker_events.consumer.options import OnSuccess, check_one_of
from celery_tasker_events.consumer.targets import Target, TargetOptions, target_for
from celery_tasker_events.errors import ConfigurationError

__all__ = ["Forwarder"]

#: More attempts than there can be.
NEVER = 2**30


class Forwarder:
    """Reads durable events from PGMQ and publishes them to a target; needs no Celery app.

    At least once: an event is deleted after the target has confirmed it, and is published again if the process, the target or
    Postgres ends in between. Several forwarders may share a queue.

    Args:
        dsn: libpq connection string or URI of the database with PGMQ.
        namespaces_or_queues: Such as ``"payments"``.
        to: The target's URL, or a function that makes a :class:`~celery_tasker_events.consumer.targets.Target`; it is called
            once for each thread.
        options: Of the target, if it is a URL.
        name: Who gave up, in dead letters.
        events: Patterns of the events to forward.
        others: What becomes of events that no pattern matches: ``"archive"`` or ``"delete"``. It must be said if there are
            patterns: what is left in the queue would hold up its workflow.
        max_attempts: After how many refusals an event becomes a dead letter; None: never. An outage of the target is no refusal.
        on_success: ``"delete"`` or ``"archive"``.
        concurrency: How many threads publish, each with a connection of its own.
        batch_size: How many events are held in memory at most.

    The others are those of :class:`~celery_tasker_events.consumer.Consumer`.

    Raises:
        ConfigurationError: if one of them is wrong.
    """

    def __init__(
        self,
        dsn: str,
        *namespaces_or_queues: str,
        to: str | Callable[[], Target],
        options: TargetOptions | None = None,
        name: str = "forward",
        events: Sequence[str] = ("*",),
        others: OnSuccess | None = None,
        max_attempts: int | None = None,
        backoff: Backoff | None = None,
        on_success: OnSuccess = "delete",
        ordered: bool = True,
        concurrency: int = 1,
        visibility_timeout: int = 30,
        poll_interval: float = 1.0,
        listen: bool = True,
        batch_size: int = 1000,
        shutdown_timeout: float = 30.0,
    ) -> None:
        try:
            patterns = patterns_of(events)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        if tuple(events) != ("*",) and others is None:
            raise ConfigurationError(
                "with a choice of events it must be said what becomes of the others: others='archive' or 'delete' (--others)"
            )
        if others is not None:
            check_one_of("others", others, "archive", "delete")
        self._make = to if callable(to) else lambda: target_for(to, options)
        self._target = self._make()
        self._concurrency = concurrency
        self._consumer = Consumer(
            dsn,
            *namespaces_or_queues,
            name=name,
            concurrency=concurrency,
            visibility_timeout=visibility_timeout,
            ordered=ordered,
            poll_interval=poll_interval,
            listen=listen,
            batch_size=batch_size,
            on_success=on_success,
            shutdown_timeout=shutdown_timeout,
            max_attempts=NEVER if max_attempts is None else max_attempts,
        )
        self._verdicts = Verdicts(
            patterns, name, on_success, others or "archive", max_attempts, ExponentialBackoff() if backoff is None else backoff
        )
        self._failure: BaseException | None = None

    @property
    def target(self) -> str:
        """Where it forwards to, without what is secret in the URL."""
        return self._target.shown

    @property
    def queues(self) -> tuple[str, ...]:
        """Names of the PGMQ queues that it reads."""
        return self._consumer.queues

    def run(self, *, until_empty: bool = False) -> None:
        """Forward until :meth:`stop`, or in the main thread until SIGTERM or SIGINT; a second signal waits for nobody.

        Args:
            until_empty: Return when there is nothing left to read. Then a target that can't be reached at the start is an
                error; otherwise it is waited for.

        Raises:
            ConfigurationError: if PGMQ or the target can't do what is asked for.
            TargetUnavailable: if it can't be reached at the start, with ``until_empty``.
            DatabaseNotReady: if the database has no PGMQ, or one that is too old.
        """
        outage = Outage(self.target)

        def start(engine: Engine) -> None:
            for number in range(1, self._concurrency + 1):
                forwarding = Forwarding(engine, self._make(), self._verdicts, outage, may_wait=not until_empty)
                threading.Thread(
                    target=self._work, args=(forwarding,), name=f"tasker-events-forwarder-{number}", daemon=True
                ).start()

        self._failure = None
        self._consumer.run_workers(start, until_empty=until_empty)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Take no more events; those that are being published are settled. From any thread."""
        self._consumer.stop()

    def statistics(self) -> dict[str, int]:
        """What was done since it was made; as ``Consumer.statistics``, with ``forwarded`` in the place of ``handled``."""
        return {"forwarded" if key == "handled" else key: count for key, count in self._consumer.statistics().items()}

    def _work(self, forwarding: Forwarding) -> None:
        try:
            forwarding.run()
        except BaseException as error:  # it would end with its thread, and nobody would know
            self._failure = error
        if self._failure is not None:
            self._consumer.stop()
