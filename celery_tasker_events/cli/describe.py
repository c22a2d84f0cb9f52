"""How the command line shows a declared event."""

from __future__ import annotations

from typing import Any

from celery_tasker_events.declaration import EventDeclaration
from celery_tasker_events.event import queue_name

__all__ = ["describe"]


def describe(
    declaration: EventDeclaration, namespace: str, *, task: str | None, step: str | None, workflow: str | None
) -> dict[str, Any]:
    """Return an event as JSON data. An event without a step is published by hand, whatever its condition."""
    durable = declaration.delivery_mode.reaches_pgmq
    return {
        "task": task,
        "step": step,
        "template": workflow,
        "event": declaration.name,
        "condition": None if step is None else declaration.condition.value,
        "delivery_mode": declaration.delivery_mode.value,
        "namespace": namespace,
        "queue": queue_name(namespace) if durable else None,
        "publisher": declaration.publisher,
        "version": declaration.version,
    }
