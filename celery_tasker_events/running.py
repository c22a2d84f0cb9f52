"""Which steps run on this thread: what a worker or an eager call has applied, and not what these call like functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from celery._state import _task_stack

from celery_tasker_events.propagation import inherit

if TYPE_CHECKING:
    from celery import Task

__all__ = ["RunningStep", "running_step"]


class RunningStep(NamedTuple):
    """A task and the request with which it was applied."""

    task: Task
    request: Any


def _running_steps() -> Iterator[RunningStep]:
    """The steps that run on this thread, innermost first: an eager call runs inside of its caller."""
    # A task that is called like a function pushes a request, too: one without an id, or in newer Celerys, where it is its own
    # caller, a copy of the one that it was applied with.
    seen: set[int] = set()
    for task in reversed(_task_stack.stack):
        requests = [request for request in reversed(task.request_stack.stack) if request.id and id(request) not in seen]
        copies = [request for request in requests if _attempt(request) == _attempt(requests[0])]
        if copies:
            seen.update(map(id, copies))
            yield RunningStep(task, copies[-1])


def _attempt(request: Any) -> tuple[str, int]:
    return request.id, request.retries or 0


def running_step() -> RunningStep | None:
    """The innermost step that runs on this thread; None outside of any.

    Where tasks run eagerly no message brings them what their caller would have sent; they get it here.
    """
    if not _task_stack.stack:
        return None
    caller = None
    for step in reversed(list(_running_steps())):
        if step.request.is_eager:
            inherit(step.request.__dict__, caller.request.__dict__ if caller else None)
        caller = step
    return caller
