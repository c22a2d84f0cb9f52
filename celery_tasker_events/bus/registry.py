"""Who subscribes to what. Subscriptions outlive a fork; threads and buffers do not, and live in the bus."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.event import DomainEvent

__all__ = ["Handler", "SubscriberRegistry", "Subscription", "shared_subscriptions", "subscribe"]

Handler = Callable[[DomainEvent], Any]
H = TypeVar("H", bound=Handler)


@dataclass(frozen=True)
class Subscription:
    """One function and the pattern of the events that it wants."""

    pattern: Pattern
    handler: Handler

    @property
    def name(self) -> str:
        module = getattr(self.handler, "__module__", None)
        return f"{module}.{getattr(self.handler, '__qualname__', repr(self.handler))}"


class SubscriberRegistry:
    """Subscriptions in the order in which they were made.

    Args:
        parent: A registry whose subscriptions come first.
    """

    def __init__(self, parent: SubscriberRegistry | None = None) -> None:
        self._parent = parent
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()

    def add(self, pattern: str, handler: Handler) -> None:
        """Subscribe a function.

        Raises:
            ValueError: if the pattern is bad.
            TypeError: if the handler can't be called.
        """
        if not callable(handler):
            raise TypeError(f"a subscriber is a function that takes an event, not {handler!r}")
        subscription = Subscription(Pattern(pattern), handler)
        with self._lock:
            if subscription.pattern.text not in (s.pattern.text for s in self._subscriptions if s.handler == handler):
                self._subscriptions = (*self._subscriptions, subscription)

    def remove(self, handler: Handler) -> None:
        """Unsubscribe a function from all of its patterns."""
        with self._lock:
            # Compared with ==: every look-up of a bound method makes another object.
            self._subscriptions = tuple(s for s in self._subscriptions if s.handler != handler)

    def all(self) -> tuple[Subscription, ...]:
        return (self._parent.all() if self._parent else ()) + self._subscriptions

    def matching(self, event_name: str) -> Sequence[Subscription]:
        """The subscriptions whose pattern matches, in order."""
        return tuple(s for s in self.all() if s.pattern.matches(event_name))


#: Subscriptions that belong to no app in particular, as shared tasks do: every app's bus serves them.
shared_subscriptions = SubscriberRegistry()


def subscribe(pattern: str) -> Callable[[H], H]:
    """Subscribe the decorated function in every app of the process, as ``shared_task`` does for tasks."""

    def decorate(handler: H) -> H:
        shared_subscriptions.add(pattern, handler)
        return handler

    return decorate
