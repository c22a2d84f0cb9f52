"""What ``events.publish`` publishes: the event's declaration, and the step or the caller that it belongs to."""

from __future__ import annotations

import dataclasses
from typing import Any

from celery import current_task

from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.building import Publication
from celery_tasker_events.catalog import Catalog
from celery_tasker_events.declaration import DeliveryMode, EventDeclaration
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.event import new_event_id
from celery_tasker_events.outcome import OutcomeKind, Snapshot, idempotency_key, observe
from celery_tasker_events.propagation import workflow_of

__all__ = ["bind_by_hand", "check_transactional", "publication_by_hand"]

#: Attribute of a task request: how often this attempt has published each event by hand.
_PUBLISHED_BY_HAND = "_tasker_events_by_hand"


def bind_by_hand(
    catalog: Catalog, event_name: str, namespace: str | None, mode: DeliveryMode | str | None, default_namespace: str
) -> BoundEvent:
    """Return the event as a template declares it, or one that nobody declared.

    Args:
        default_namespace: Of an undeclared event outside of a task that has events.

    Raises:
        ConfigurationError: if the event's name or another field is wrong.
    """
    task = current_task
    workflow = workflow_of(task.request.__dict__ if task and task.request.id else {})
    declared = catalog.declared_by_hand(event_name, workflow)
    if declared is not None and namespace in (None, declared.namespace):
        return declared if mode is None else _in_mode(declared, mode)
    events = catalog.step(task).events if task else ()
    return catalog.bind_by_hand(
        event_name,
        namespace or (events[0].namespace if events else default_namespace),
        events[0].step_name if events else (task.name.rpartition(".")[2] if task else None),
        delivery_mode=mode.value if isinstance(mode, DeliveryMode) else mode,
    )


def publication_by_hand(bound: BoundEvent, payload: Any, correlation_id: str | None, key: str | None) -> Publication:
    """Return the publication of an event by the running task, or by nobody where none is running.

    Args:
        key: Its idempotency key, or None to make one.
    """
    event_id = new_event_id()
    snapshot = Snapshot.of(payload)
    request = current_task.request if current_task else None
    # A task that is called like a function has a request without an id.
    if request is not None and request.id:
        outcome = observe(OutcomeKind.BY_HAND, current_task.name, request.id, request, result=snapshot)
        counts = request.__dict__.setdefault(_PUBLISHED_BY_HAND, {})
        counts[bound.declaration.name] = sequence = counts.get(bound.declaration.name, 0) + 1
        key = key or idempotency_key(outcome, bound.namespace, bound.declaration.name, sequence)
    else:
        outcome = observe(OutcomeKind.BY_HAND, "", event_id, _Nowhere(), result=snapshot)
        outcome = outcome._replace(task_uuid=None, step_uuid=None, task_name=None)
        key = key or event_id
    if correlation_id is not None:
        outcome = outcome._replace(correlation_id=correlation_id)
    return Publication(outcome, (bound,), event_id, key, Confirmation(1) if bound.confirm else None)


def check_transactional(bound: BoundEvent, *, confirm: bool) -> None:
    """Raise ConfigurationError where an event can't go with the caller's transaction alone."""
    name, mode = bound.declaration.name, bound.declaration.delivery_mode
    if mode.reaches_bus:
        raise ConfigurationError(
            f"{name} is {mode.value}: subscribers can't be told of it before the transaction is committed, and the commit is "
            "yours. Publish it with delivery_mode='durable', and what subscribers are to hear after the commit, as another event"
        )
    if confirm:
        raise ConfigurationError(f"{name}: confirm=True waits for a commit, but with connection=... the commit is yours")


def _in_mode(bound: BoundEvent, mode: DeliveryMode | str) -> BoundEvent:
    checked = EventDeclaration.from_mapping({"name": bound.declaration.name, "delivery_mode": mode}).delivery_mode
    declaration = dataclasses.replace(bound.declaration, delivery_mode=checked)
    return dataclasses.replace(bound, declaration=declaration, confirm=bound.confirm and checked.reaches_pgmq)


class _Nowhere:
    """Stands for the request where there is none."""
