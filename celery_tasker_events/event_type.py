"""EventType: an event that is published by hand, with the class of its payload, so that a type checker knows both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from celery_tasker_events.declaration import EventDeclaration

__all__ = ["EventType"]

P = TypeVar("P")


@dataclass(frozen=True)
class EventType(Generic[P]):
    """What ``events.declare`` returns and ``events.publish`` takes in place of a name.

    Attributes:
        declaration: What was declared.
        payload_class: A pydantic model, a dataclass or a TypedDict.
    """

    declaration: EventDeclaration
    payload_class: type[P]

    @property
    def name(self) -> str:
        return self.declaration.name
