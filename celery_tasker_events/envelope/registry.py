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
        return envelope.from_message(message)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"not a whole domain event in the {envelope.name} envelope ({type(error).__name__}: {error}): {_outline(message)}"
        ) from error


def _outline(message: Any) -> str:
    if isinstance(message, Mapping):
        return f"an object with the keys {', '.join(map(str, message)) or '(none)'}"
    return f"a value of type {type(message).__name__}"
