"""What flows from a step to the tasks that it sends, in message headers: the correlation id and the workflow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, NamedTuple

__all__ = ["CORRELATION_HEADER", "WORKFLOW_HEADER", "correlation_of", "hand_on", "inherit", "sending", "workflow_of"]

#: Message header that carries a correlation id.
CORRELATION_HEADER = "tasker_correlation_id"

#: Message header that says which task template a call belongs to, as ``namespace/name``.
WORKFLOW_HEADER = "tasker_workflow"


class _Given(NamedTuple):
    """What the caller gave for everything that is sent inside a ``with`` block."""

    correlation_id: str | None = None
    workflow: str | None = None


_NOTHING = _Given()

_given: ContextVar[_Given] = ContextVar("celery_tasker_events_given", default=_NOTHING)


@contextlib.contextmanager
def sending(*, correlation_id: str | None = None, workflow: str | None = None) -> Iterator[None]:
    """Give every task that is sent inside the block this correlation id, this workflow, or both."""
    outer = _given.get()
    token = _given.set(_Given(correlation_id or outer.correlation_id, workflow or outer.workflow))
    try:
        yield
    finally:
        _given.reset(token)


def correlation_of(request_fields: Mapping[str, Any]) -> str | None:
    """The correlation id that a task request came with, or None.

    An eager task has no message to come with: it runs inside its caller's block. So does what is published outside of
    a task, whose request has no fields.
    """
    return _header(request_fields, CORRELATION_HEADER) or (_given.get().correlation_id if _is_local(request_fields) else None)


def workflow_of(request_fields: Mapping[str, Any]) -> str | None:
    """The workflow that a task request came with, or None; eager tasks as for :func:`correlation_of`."""
    return _header(request_fields, WORKFLOW_HEADER) or (_given.get().workflow if _is_local(request_fields) else None)


def hand_on(headers: MutableMapping[str, Any], sender_fields: Mapping[str, Any] | None, *, group_id: str | None = None) -> None:
    """Add to a message's headers what flows to it, unless the caller set it there.

    Args:
        sender_fields: The request of the task that sends the message, or None outside of a task.
        group_id: The group or chord that the message is part of. Sent from outside of a task, its members have no root in common.
    """
    correlation_id, workflow = _given.get()
    if sender_fields is not None:
        # Celery's own root id does not reach every member of a chord, so it is pinned by the first step that sends.
        correlation_id = (
            correlation_id or correlation_of(sender_fields) or sender_fields.get("root_id") or sender_fields.get("id")
        )
        workflow = workflow or workflow_of(sender_fields)
    correlation_id = correlation_id or group_id
    if correlation_id is not None:
        headers.setdefault(CORRELATION_HEADER, correlation_id)
    if workflow is not None:
        headers.setdefault(WORKFLOW_HEADER, workflow)


def inherit(request_fields: MutableMapping[str, Any], caller_fields: Mapping[str, Any] | None) -> None:
    """Give an eager task, which no message brings anything, what it would have been sent with, unless its headers say it.

    Args:
        caller_fields: The request of the step that calls it, or None outside of a step.
    """
    flowing: dict[str, Any] = {}
    hand_on(flowing, caller_fields)
    for name, value in flowing.items():
        if _header(request_fields, name) is None:
            request_fields[name] = value
    if caller_fields is not None and (root_id := caller_fields.get("root_id") or caller_fields.get("id")):
        request_fields["root_id"] = root_id


def _is_local(request_fields: Mapping[str, Any]) -> bool:
    return not request_fields or bool(request_fields.get("is_eager"))


def _header(request_fields: Mapping[str, Any], name: str) -> str | None:
    # In a worker custom headers are attributes of the request; run eagerly, they are only in its headers.
    value = request_fields.get(name)
    if value is None and (headers := request_fields.get("headers")):
        value = headers.get(name)
    return value if isinstance(value, str) and value else None
