"""Celery's signals and worker lifecycle, turned into calls of the plugin. Nothing here may raise into a task."""

from __future__ import annotations

import atexit
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import click
from celery import bootsteps, signals

from celery_tasker_events.binding import BoundStep
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.outcome import STARTED_AT, OutcomeKind, Snapshot, error_of, observe
from celery_tasker_events.pipeline import Publication
from celery_tasker_events.telemetry.log import logger

if TYPE_CHECKING:
    from celery import Celery, Task

__all__ = ["Plugin", "SignalReceiver"]


class Plugin(Protocol):
    """What the signals need of the plugin."""

    app: Celery

    def step(self, task: Task) -> BoundStep: ...
    def put(self, publication: Publication) -> bool: ...
    def check_worker(self) -> None: ...
    def close(self) -> bool: ...


class SignalReceiver:
    """Receives the signals of one app's tasks and of the process it runs in."""

    def __init__(self, plugin: Plugin) -> None:
        self._find_plugin = weakref.ref(plugin)
        # A hard time limit and a spurious kill_job error tell the same failure twice; the last ones are remembered.
        self._told: OrderedDict[tuple[str, int, OutcomeKind], None] = OrderedDict()

    def connect(self) -> None:
        """Connect for as long as the plugin lives; Celery holds the receivers strongly, and each once."""
        plugin = self._plugin
        receivers = (
            (signals.task_prerun, self.on_prerun),
            (signals.task_success, self.on_success),
            (signals.task_failure, self.on_failure),
            (signals.task_retry, self.on_retry),
            (signals.worker_process_shutdown, self.on_end),
            (signals.worker_shutdown, self.on_end),
        )
        for signal, receiver in receivers:
            uid = (id(self), receiver.__name__)
            signal.connect(receiver, weak=False, dispatch_uid=uid)
            weakref.finalize(plugin, signal.disconnect, dispatch_uid=uid).atexit = False
        atexit.register(self.on_end)
        weakref.finalize(plugin, atexit.unregister, self.on_end).atexit = False
        plugin.app.steps["worker"].add(_worker_step(self._find_plugin))

    @property
    def _plugin(self) -> Plugin:
        plugin = self._find_plugin()
        if plugin is None:
            raise ReferenceError("the plugin of this app is gone")
        return plugin

    def on_prerun(self, sender: Any = None, **_: Any) -> None:
        try:
            if self._events(sender) is not None:
                setattr(sender.request, STARTED_AT, time.monotonic())
        except Exception:
            logger.warning("Could not note when task %r began", sender, exc_info=True)

    def on_success(self, sender: Any = None, result: Any = None, runtime: float | None = None, **_: Any) -> None:
        try:
            step = self._events(sender)
            if step is None or not (events := step.by_outcome[OutcomeKind.SUCCESS]):
                return
            request = sender.request
            outcome = observe(
                OutcomeKind.SUCCESS,
                sender.name,
                request.id,
                request,
                result=Snapshot.of(result),
                runtime=runtime,
                inputs=_inputs(step, request.args, request.kwargs),
            )
            self._plugin.put(Publication(outcome, events))
        except (Exception, SystemExit):  # a soft time limit or user code inside the result must not reach the task
            _tell_trouble(sender)

    def on_failure(
        self,
        sender: Any = None,
        task_id: str | None = None,
        exception: BaseException | None = None,
        args: Any = None,
        kwargs: Any = None,
        **_: Any,
    ) -> None:
        try:
            self._failed(OutcomeKind.PERMANENT_FAILURE, sender, task_id, sender.request, exception, args, kwargs)
        except (Exception, SystemExit):
            _tell_trouble(sender)

    def on_retry(self, sender: Any = None, request: Any = None, reason: Any = None, **_: Any) -> None:
        try:
            # Without a reason the worker gives the step back at a cold shutdown: it will run again, nothing failed.
            if reason is not None:
                exception = getattr(reason, "exc", None)
                self._failed(OutcomeKind.RETRYABLE_FAILURE, sender, request.id, request, exception, request.args, request.kwargs)
        except (Exception, SystemExit):
            _tell_trouble(sender)

    def on_end(self, **_: Any) -> None:
        try:
            self._plugin.close()
        except Exception:
            logger.warning("Draining domain events failed", exc_info=True)

    def _failed(
        self, kind: OutcomeKind, task: Any, task_id: str | None, request: Any, exception: Any, args: Any, kwargs: Any
    ) -> None:
        step = self._events(task)
        if step is None or task_id is None or not (events := step.by_outcome[kind]):
            return
        error, code = error_of(exception, retryable=kind is OutcomeKind.RETRYABLE_FAILURE)
        inputs = _inputs(step, args, kwargs)
        outcome = observe(kind, task.name, task_id, request, error=error, error_code=code, inputs=inputs)
        if not self._was_told(task_id, outcome.attempt, kind):
            self._plugin.put(Publication(outcome, events))

    def _events(self, task: Any) -> BoundStep | None:
        plugin = self._find_plugin()
        if plugin is None or task.app is not plugin.app:
            return None
        step = plugin.step(task)
        return step if step.events else None

    def _was_told(self, task_id: str, attempt: int, kind: OutcomeKind, remembered: int = 1000) -> bool:
        # The second telling may have lost the request, and with it the attempt; a permanent failure comes but once.
        key = (task_id, attempt if kind is OutcomeKind.RETRYABLE_FAILURE else 0, kind)
        if key in self._told:
            return True
        self._told[key] = None
        if len(self._told) > remembered:
            self._told.popitem(last=False)
        return False


def _inputs(step: BoundStep, args: Any, kwargs: Any) -> Snapshot | None:
    return Snapshot.of([args or [], kwargs or {}]) if step.needs_inputs else None


def _tell_trouble(task: Any) -> None:
    logger.warning("Domain events of task %r could not be published; the task is not affected", task, exc_info=True)


def _worker_step(find_plugin: Callable[[], Plugin | None]) -> type[bootsteps.Step]:
    """A boot step that refuses to start a worker whose declarations are wrong, before it forks a child."""

    class DomainEventsStep(bootsteps.Step):  # type: ignore[misc]  # celery has no type hints
        name = "celery_tasker_events"

        def __init__(self, worker: Any, **options: Any) -> None:
            super().__init__(worker, **options)
            plugin = find_plugin()
            assert plugin is not None, "the app of a worker keeps its plugin"
            try:
                plugin.check_worker()
            except ConfigurationError as error:
                # Celery's command line shows this without a traceback and exits with 1.
                raise click.ClickException(f"celery_tasker_events can't start:\n{error}") from error

    return DomainEventsStep
