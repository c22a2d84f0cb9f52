"""Celery's signals and worker lifecycle, turned into calls of the plugin. Nothing here may raise into a task."""

from __future__ import annotations

import atexit
import contextlib
import functools
import signal as os_signals
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from billiard.util import set_pdeathsig
from celery import current_task, signals
from celery.app.task import Context
from celery.exceptions import Retry, TaskRevokedError

from celery_tasker_events.binding import BoundEvent, BoundStep
from celery_tasker_events.building import Publication
from celery_tasker_events.declaration import decorated
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.outcome import STARTED_AT, OutcomeKind, Snapshot, StepOutcome, error_of, observe
from celery_tasker_events.propagation import hand_on, workflow_of
from celery_tasker_events.running import running_step
from celery_tasker_events.starts import Starts, StartsPlugin
from celery_tasker_events.telemetry.log import RateLimitedWarning, current_error_fields, logger
from celery_tasker_events.worker_step import WorkersPlugin, worker_step

if TYPE_CHECKING:
    from celery import Task

__all__ = ["Plugin", "SignalReceiver"]

#: Celery's tasks that call another one like a function, for each of many arguments.
_CALLING_MANY = frozenset({"celery.map", "celery.starmap", "celery.chunks"})

#: A prefork child outlives these: the first is its soft time limit, the second it ignores. It tells the outcome itself.
_SURVIVED = {os_signals.SIGUSR1, os_signals.SIGINT}


class Plugin(StartsPlugin, WorkersPlugin, Protocol):
    """What the signals need of the plugin."""

    known_steps: dict[int, tuple[Task, BoundStep]]

    def step(self, task: Task) -> BoundStep: ...
    def put(self, publication: Publication) -> bool: ...
    def stop_metrics(self) -> None: ...
    def adopt(self) -> None: ...
    def close(self) -> bool: ...
    def end(self) -> None: ...


class SignalReceiver:
    """Receives the signals of one app's tasks and of the process it runs in."""

    def __init__(self, plugin: Plugin) -> None:
        self._find_plugin = weakref.ref(plugin)
        self._receivers: list[Callable[..., None]] = []
        self._heeds_postrun = False
        # A hard time limit and a spurious kill_job error tell the same failure twice; the last ones are remembered.
        self._told: OrderedDict[str, set[tuple[Any, ...]]] = OrderedDict()
        # What the worker's main process has received and not finished: where it tells an outcome, this has the ids.
        self._received: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self._unknown_workflow = RateLimitedWarning(
            "%d steps of task %s could not tell which template they belong to (workflow header: %s): only its decorators'"
            " events were published. Send it inside events.workflow(...) with %s"
        )
        self._called_many = RateLimitedWarning(
            "%d times %s called task %s, which has events: such calls are no steps and have no outcome, so none of its events"
            " is published. Send a group, or publish by hand"
        )

    def connect(self) -> None:
        """Connect for as long as this object lives, each receiver once.

        Celery holds them weakly: to disconnect when the plugin is collected would take a signal's lock, which the thread that
        collects may hold already.
        """
        plugin = self._plugin
        receivers = (
            (signals.before_task_publish, self.on_before_publish),
            (signals.task_received, self.on_received),
            (signals.task_success, self.on_success),
            (signals.task_failure, self.on_failure),
            (signals.task_retry, self.on_retry),
            (signals.worker_process_init, self.on_start),
            (signals.worker_ready, self.on_start),
            (signals.task_revoked, self.on_revoked),
            (signals.worker_process_shutdown, self.on_child_end),
            (signals.worker_shutdown, self.on_end),
        )
        for signal, receiver in receivers:
            self._connect(signal, receiver)
        self.starts = Starts(
            lambda: self._connect(signals.task_prerun, self.on_prerun),
            lambda: signals.task_prerun.disconnect(dispatch_uid=self._uid_of(self.on_prerun)),
        )
        decorated.tell(self.starts)
        atexit.register(self.on_exit)
        weakref.finalize(plugin, self._forget).atexit = False
        plugin.app.steps["worker"].add(worker_step(self._find_plugin))

    def _connect(self, signal: Any, method: Callable[..., None]) -> None:
        # Each send resolves the weak reference anew, and to a bound method that takes a quarter of all that an unconcerned task
        # pays. A partial is an object that stays.
        receiver = functools.update_wrapper(functools.partial(method), method)
        self._receivers.append(receiver)
        signal.connect(receiver, weak=True, dispatch_uid=self._uid_of(method))

    def _uid_of(self, method: Callable[..., None]) -> tuple[int, str]:
        return id(self), method.__name__

    def _forget(self) -> None:
        atexit.unregister(self.on_exit)
        # They hold this object: without them, it and they are gone at once.
        self._receivers.clear()

    @property
    def _plugin(self) -> Plugin:
        plugin = self._find_plugin()
        if plugin is None:
            raise ReferenceError("the plugin of this app is gone")
        return plugin

    def on_before_publish(self, sender: Any = None, headers: Any = None, body: Any = None, **_: Any) -> None:
        try:
            if isinstance(headers, dict):
                step = running_step()
                hand_on(headers, step.request.__dict__ if step else None, group_id=_group_of(sender, headers, body))
        except Exception:
            logger.warning("Could not hand on the correlation id to a task", exc_info=True, extra=current_error_fields())

    def on_received(self, request: Any = None, **_: Any) -> None:
        try:
            if self._events(request.task) is not None:
                self._received[request.id] = request
        except Exception:
            logger.warning("Could not note that %r was received", request, exc_info=True, extra=current_error_fields())

    def on_prerun(self, sender: Any = None, **_: Any) -> None:
        try:
            if self._events(sender) is not None:
                request = sender.request
                self._told.pop(request.id, None)
                setattr(request, STARTED_AT, time.monotonic())
                if request.is_eager:
                    self._prepare_eager()
        except Exception:
            logger.warning("Could not note when task %r began", sender, exc_info=True, extra=current_error_fields())

    def on_success(self, sender: Any = None, result: Any = None, runtime: float | None = None, **_: Any) -> None:
        try:
            step = self._events(sender)
            if self.starts.are_in_question:
                self.starts.review(self._plugin, sender)
            if step is None:
                if getattr(sender, "name", None) in _CALLING_MANY:
                    self._tell_called_many(sender, sender.request.args, sender.request.kwargs)
                return
            request = sender.request
            if request.is_eager and not self.starts.are_heeded:
                self._prepare_eager()
            events = self._due(step, OutcomeKind.SUCCESS, sender, request)
            if not events:
                return
            outcome = observe(
                OutcomeKind.SUCCESS,
                sender.name,
                request.id,
                request,
                result=Snapshot.of(result),
                runtime=runtime,
                inputs=_inputs(step, request.args, request.kwargs),
            )
            self._plugin.put(Publication(outcome, events, confirmation=_confirmation(step, events)))
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
            step = self._events(sender)
            if step is None:
                if getattr(sender, "name", None) in _CALLING_MANY:
                    self._tell_called_many(sender, args, kwargs)
            elif task_id is not None:
                kind = OutcomeKind.RETRYABLE_FAILURE if isinstance(exception, step.retryable) else OutcomeKind.PERMANENT_FAILURE
                request = self._request_of(sender, task_id)
                self._failed(step, kind, sender, task_id, request, exception, _inputs(step, args, kwargs))
        except (Exception, SystemExit):
            _tell_trouble(sender)

    def on_postrun(self, sender: Any = None, task_id: str | None = None, state: str | None = None, **_: Any) -> None:
        """An eager call that passes its exception on to its caller: Celery sends no other signal of how it ended."""
        error = sys.exc_info()[1]
        if error is None or state is not None or not sender.request.is_eager:
            return
        request = sender.request
        if isinstance(error, Retry):
            self.on_retry(sender, request, error)
        else:
            self.on_failure(sender, task_id, error, request.args, request.kwargs)

    def on_retry(self, sender: Any = None, request: Any = None, reason: Any = None, **_: Any) -> None:
        try:
            # Without a reason the worker gives the step back at a cold shutdown: it will run again, nothing failed.
            step = None if reason is None else self._events(sender)
            if step is not None:
                exception, inputs = getattr(reason, "exc", None), _inputs(step, request.args, request.kwargs)
                self._failed(step, OutcomeKind.RETRYABLE_FAILURE, sender, request.id, request, exception, inputs)
        except (Exception, SystemExit):
            _tell_trouble(sender)

    def on_start(self, **_: Any) -> None:
        # The replacement of a child that was killed is the first to come by.
        try:
            self._plugin.adopt()
        except Exception:
            logger.warning("Could not look for domain events on disk", exc_info=True, extra=current_error_fields())

    def on_revoked(self, sender: Any = None, request: Any = None, terminated: bool = False, signum: Any = None, **_: Any) -> None:
        try:
            # A step that was revoked, or has expired, before it ran has made no attempt that could have failed.
            how = _signal_of(signum) if terminated else None
            step = None if how is None or how in _SURVIVED else self._events(sender)
            if step is not None and how is not None:
                exception, inputs = TaskRevokedError(f"terminated by {how.name}"), _inputs(step, request.args, request.kwargs)
                self._failed(step, OutcomeKind.PERMANENT_FAILURE, sender, request.id, request, exception, inputs)
        except (Exception, SystemExit):
            _tell_trouble(sender)

    def on_child_end(self, **_: Any) -> None:
        _outlive_parent()
        with _deaf(os_signals.SIGTERM, os_signals.SIGQUIT):
            self.on_end()

    def on_end(self, **_: Any) -> None:
        self._drain(lambda: self._plugin.close())

    def on_exit(self) -> None:
        self._drain(lambda: self._plugin.end())

    def _drain(self, drain: Callable[[], object]) -> None:
        try:
            try:
                drain()
            finally:
                # First, as counts without those of the children would be taken for a restart.
                self._plugin.stop_metrics()
                self._plugin.tally.remove_board()
        except Exception:
            logger.warning("Draining domain events failed", exc_info=True, extra=current_error_fields())

    def _prepare_eager(self) -> None:
        running_step()
        self.starts.heed()
        if not self._heeds_postrun:
            # Only now, as a worker has no need of it.
            self._heeds_postrun = True
            self._connect(signals.task_postrun, self.on_postrun)

    def _tell_called_many(self, caller: Task, args: Any, kwargs: Any) -> None:
        signature = (kwargs or {}).get("task") or next(iter(args or ()), None)
        called = caller.app.tasks.get(dict(signature or {}).get("task"))
        if called is not None and self._events(called) is not None:
            self._called_many.add(caller.name, called.name)

    def _failed(
        self,
        step: BoundStep,
        kind: OutcomeKind,
        task: Task,
        task_id: str,
        request: Any,
        exception: BaseException | None,
        inputs: Snapshot | None,
    ) -> None:
        events = self._due(step, kind, task, request)
        if not events:
            return
        error, code = error_of(exception, retryable=kind is OutcomeKind.RETRYABLE_FAILURE)
        outcome = observe(kind, task.name, task_id, request, error=error, error_code=code, inputs=inputs)
        if not self._was_told(outcome):
            self._plugin.put(Publication(outcome, events, confirmation=_confirmation(step, events)))

    def _request_of(self, task: Task, task_id: str) -> Any:
        """The request that a failure is about: the main process does not run the task, so its current one is none."""
        if task.request.id != task_id and (received := self._received.get(task_id)) is not None:
            return Context(received.request_dict)
        return task.request

    def _due(self, step: BoundStep, kind: OutcomeKind, task: Task, request: Any) -> tuple[BoundEvent, ...]:
        if not step.is_shared:
            return step.due(kind, None)
        workflow = workflow_of(request.__dict__)
        if workflow not in step.workflows:
            self._unknown_workflow.add(task.name, workflow, " or ".join(step.workflows))
        return step.due(kind, workflow)

    def _events(self, task: Any) -> BoundStep | None:
        plugin = self._find_plugin()
        if plugin is None:
            return None
        known = plugin.known_steps.get(id(task))
        if known is None:
            if task.app is not plugin.app:
                return None
            known = plugin.known_steps[id(task)] = task, plugin.step(task)
        step = known[1]
        return step if step.events else None

    def _was_told(self, outcome: StepOutcome, remembered: int = 1000) -> bool:
        # The second telling may have lost the request, and with it the attempt; a permanent failure comes but once.
        is_final = outcome.kind is OutcomeKind.PERMANENT_FAILURE
        told = (outcome.kind,) if is_final else (outcome.kind, outcome.attempt, outcome.replacement)
        of_step = self._told.setdefault(str(outcome.step_uuid), set())
        if told in of_step:
            return True
        of_step.add(told)
        if len(self._told) > remembered:
            self._told.popitem(last=False)
        return False


def _group_of(task_name: str, headers: Any, body: Any) -> Any:
    """The id of the group or chord that a message is part of; None if it is of none."""
    if headers.get("group") is not None or not isinstance(body, tuple):
        return headers.get("group")
    args, _, embedded = body
    if task_name == "celery.chord_unlock":
        return args[0]
    # Of a chain that is a member of a group Celery marks the last task only; that one is the first in this list.
    chain = embedded.get("chain")
    return chain[0]["options"].get("group_id") if chain else None


def _confirmation(step: BoundStep, events: tuple[BoundEvent, ...]) -> Confirmation | None:
    if not step.has_confirmed:
        return None
    # Outside of a task, this is the worker's main process, which has children to look after: it never waits.
    count = sum(event.confirm for event in events) if current_task else 0
    return Confirmation(count) if count else None


def _signal_of(signum: Any) -> os_signals.Signals:
    # Where the main process finds a child gone, Celery hands on billiard's text: the negative number.
    return os_signals.Signals(abs(int(signum)))


def _inputs(step: BoundStep, args: Any, kwargs: Any) -> Snapshot | None:
    return Snapshot.of([args or [], kwargs or {}]) if step.needs_inputs else None


def _tell_trouble(task: Any) -> None:
    logger.warning(
        "Domain events of task %r could not be published; the task is not affected",
        task,
        exc_info=True,
        extra=current_error_fields(),
    )


def _outlive_parent() -> None:
    """Celery has Linux kill a child when its parent ends, by which Linux means the thread that has forked it. Without an event
    loop that is one of billiard's, which ends at a warm shutdown as soon as the child is told to end, not when it has drained."""
    with contextlib.suppress(OSError):  # there is no such thing on this system
        set_pdeathsig(0)


@contextlib.contextmanager
def _deaf(*signums: os_signals.Signals) -> Iterator[None]:
    """Ignore these signals in a child that is ending anyway: the main process sends another whenever it makes the pool
    smaller before the child is gone, and the second would kill it in the middle of its drain."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: os_signals.signal(signum, os_signals.SIG_IGN) for signum in signums}
    try:
        yield
    finally:
        for signum, handler in before.items():
            os_signals.signal(signum, handler)
