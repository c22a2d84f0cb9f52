"""Finds the envelopes: each module of this folder may bring one, so that adding one means adding one file."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Mapping
from typing import Any

from celery_tasker_events.envelope.base import Envelope
from celery_tasker_events.event import DomainEvent

__all__ = ["NAMES", "by_name", "read", "recognise"]


def _discover() -> Mapping[str, Envelope]:
    package = sys.modules[__package__]
    for module in pkgutil.iter_modules(package.__path__, f"{__package__}."):
        importlib.import_module(module.name)
    return {envelope.name: envelope() for envelope in sorted(Envelope.__subclasses__(), key=lambda kind: kind.name)}


_ENVELOPES = _discover()

#: What ``tasker_events_envelope`` may be.
NAMES = tuple(_ENVELOPES)


def by_name(name: str) -> Envelope:
    """Return the envelope that ``tasker_events_envelope`` calls by that name, one of :data:`NAMES`."""
    return _ENVELOPES[name]


def recognise(message: Any) -> Envelope | None:
    """Return the envelope that a message from a queue is in; None if it is no domain event, such as a dead letter."""
    if not isinstance(message, Mapping):
        return None
    return next((envelope for envelope in _ENVELOPES.values() if envelope.recognises(message)), None)


def read(message: Any) -> DomainEvent:
    """Read a message from a queue, as a PGMQ client decodes it, whichever envelope it is in.

    Raises:
        ValueError: if it is no domain event, or one that lacks something.
    """
    envelope = recognise(message)
    if envelope is None:
        raise ValueError(f"not a domain event in any of the envelopes {', '.join(NAMES)}: {_outline(message)}")
    try:
        return _checked(envelope.from_message(message))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"not a whole domain event in the {envelope.name} envelope ({type(error).__name__}: {error}): {_outline(message)}"
        ) from error


def _checked(event: DomainEvent) -> DomainEvent:
    """Anybody may have put the message there: what a handler relies on is what it says it is."""
    metadata = event.metadata
    for name in ("event_id", "event_name", "event_version"):
        if not isinstance(getattr(event, name), str):
            raise TypeError(f"{name} is no string")
    for name in ("namespace", "correlation_id", "fired_by", "idempotency_key"):
        if not isinstance(getattr(metadata, name), str):
            raise TypeError(f"metadata.{name} is no string")
    for name in ("task_uuid", "step_uuid", "step_name"):
        if not isinstance(getattr(metadata, name), str | None):
            raise TypeError(f"metadata.{name} is neither a string nor null")
    result = event.execution_result
    if not isinstance(result.success, bool):
        raise TypeError("execution_result.success is no boolean")
    if not isinstance(result.status, str):
        raise TypeError("execution_result.status is no string")
    if not isinstance(result.metadata, Mapping):
        raise TypeError("execution_result.metadata is no object")
    if result.error and not all(isinstance(text, str) for text in (result.error.type, result.error.message)):
        raise TypeError("execution_result.error has a type or a message that is no string")
    return event


def _outline(message: Any) -> str:
    if isinstance(message, Mapping):
        return f"an object with the keys {', '.join(map(str, message)) or '(none)'}"
    return f"a value of type {type(message).__name__}"
