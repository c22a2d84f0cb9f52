"""Who subscribes to what. Subscriptions outlive a fork; threads and buffers do not, and live in the bus."""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from celery_tasker_events.bus.fork import renew_in_children
from celery_tasker_events.bus.matching import MatchCache
from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.bus.statistics import StatisticsBook, SubscriberStatistics
from celery_tasker_events.bus.subscriber import BaseSubscriber, steps_of
from celery_tasker_events.event import DomainEvent

__all__ = ["Handler", "SubscriberRegistry", "Subscription", "shared_subscriptions", "subscribe", "unsubscribe"]

Handler = Callable[[DomainEvent], Any]
H = TypeVar("H", bound=Handler)
S = TypeVar("S", bound=BaseSubscriber)


class Subscription:
    """One subscriber and the patterns of the events that it wants.

    Attributes:
        handler: A function that takes an event, or a BaseSubscriber.
        call: What begins a call: the function itself, or what returns the steps of a BaseSubscriber's.
        origin: What the user gave for it: the handler, or the class that it was made from.
        active: False once it is removed; what waits for it then is not delivered any more.
    """

    def __init__(self, patterns: Sequence[Pattern], handler: Handler | BaseSubscriber, origin: object) -> None:
        self.patterns = tuple(patterns)
        self.handler = handler
        self.call: Handler = functools.partial(steps_of, handler) if isinstance(handler, BaseSubscriber) else handler
        self.origin = origin
        self.active = True

    def matches(self, event_name: str) -> bool:
        return any(pattern.matches(event_name) for pattern in self.patterns)

    @functools.cached_property
    def name(self) -> str:
        named: Any = self.handler
        while isinstance(named, functools.partial):
            named = named.func
        if not hasattr(named, "__qualname__"):
            named = type(named)
        return f"{named.__module__ or 'builtins'}.{named.__qualname__}"


class SubscriberRegistry:
    """Subscribers in the order in which they came; it is started from the beginning.

    Args:
        parent: A registry whose subscribers come first; it has no parent itself.

    Attributes:
        running: Whether subscribers get events.
    """

    def __init__(self, parent: SubscriberRegistry | None = None) -> None:
        self._parent = parent
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()
        self._found: MatchCache[Subscription] = MatchCache()
        self.running = True
        self.book = StatisticsBook()
        renew_in_children(self)

    def start_all(self) -> None:
        """Let the subscribers have events, from now on."""
        self.running = True

    def stop_all(self) -> None:
        """Keep events from the subscribers, those that wait for them already included. Streams go on."""
        self.running = False

    def statistics(self) -> tuple[SubscriberStatistics, ...]:
        """What each subscriber did in this process, in the order in which they came."""
        return tuple(self.book.of(subscription) for subscription in self.all())

    def add(self, pattern: str, handler: Handler) -> None:
        """Subscribe a function. One that is defined anew, at the top of its module, takes the place of the one before.

        Raises:
            ValueError: if the pattern is bad.
            TypeError: if the handler can't be called.
        """
        if not callable(handler):
            raise TypeError(f"a subscriber is a function that takes an event, not {handler!r}")
        wanted = Pattern(pattern)
        with self._lock:
            if wanted.text not in (s.patterns[0].text for s in self._subscriptions if _same(s.origin, handler)):
                others = (
                    s for s in self._subscriptions if s.patterns[0].text != wanted.text or not _redefines(handler, s.origin)
                )
                self._subscriptions = (*others, Subscription([wanted], handler, handler))

    def register(self, subscriber: S | type[S]) -> S:
        """Subscribe an object of a class; the same class or object counts once.

        Returns:
            The object that gets the events.

        Raises:
            TypeError: if it is no BaseSubscriber, has no ``handle``, or needs arguments.
            ValueError: if a pattern is bad or there is none.
        """
        cls = subscriber if isinstance(subscriber, type) else type(subscriber)
        if not issubclass(cls, BaseSubscriber):
            raise TypeError(
                f"{subscriber!r} is neither a class derived from BaseSubscriber nor an object of one; "
                "a function subscribes with @events.subscribe(pattern)"
            )
        for known in self._subscriptions:
            if known.origin is subscriber and isinstance(known.handler, cls):
                return known.handler
        made = subscriber.make() if isinstance(subscriber, type) else subscriber
        subscription = Subscription(made.patterns(), made, subscriber)
        with self._lock:
            others = (s for s in self._subscriptions if not _redefines(subscriber, s.origin))
            self._subscriptions = (*others, subscription)
        return made

    def remove(self, subscriber: object) -> bool:
        """Unsubscribe a function from all of its patterns, or a class or an object; return whether it was subscribed.

        What waits for it already is not delivered any more.
        """
        with self._lock:
            gone = [s for s in self._subscriptions if _same(s.origin, subscriber) or _same(s.handler, subscriber)]
            for subscription in gone:
                subscription.active = False
            self._subscriptions = tuple(s for s in self._subscriptions if s.active)
        return bool(gone)

    def all(self) -> tuple[Subscription, ...]:
        return (self._parent._subscriptions if self._parent else ()) + self._subscriptions

    def matching(self, event_name: str) -> Sequence[Subscription]:
        """The subscriptions whose patterns match, in order; none while stopped."""
        if not self.running:
            return ()
        if self._parent is None:
            return self._found.find(event_name, self._subscriptions)
        return self._found.find(event_name, self._parent._subscriptions, self._subscriptions)

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self.book = StatisticsBook()


def _same(known: object, given: object) -> bool:
    # Compared with ==, too: every look-up of a bound method makes another object. But two subscribers that are equal, as
    # objects of a dataclass may be, are still two.
    return known is given or (not isinstance(given, BaseSubscriber) and bool(known == given))


def _redefines(given: object, known: object) -> bool:
    """Whether it is the same function or class, made anew: its module was reloaded, or a notebook's cell run again."""
    name = _defined_as(given)
    return name is not None and given is not known and type(given) is type(known) and name == _defined_as(known)


def _defined_as(origin: object) -> tuple[str, str] | None:
    """Where it is defined, if that name stands for one thing only: at the top of a module, and not as ``_``."""
    if not isinstance(origin, type | types.FunctionType) or "<" in origin.__qualname__ or origin.__name__ == "_":
        return None
    return origin.__module__, origin.__qualname__


#: Subscriptions that belong to no app in particular, as shared tasks do: every app's bus serves them.
shared_subscriptions = SubscriberRegistry()


def subscribe(pattern: str) -> Callable[[H], H]:
    """Subscribe the decorated function in every app of the process, as ``shared_task`` does for tasks."""

    def decorate(handler: H) -> H:
        shared_subscriptions.add(pattern, handler)
        return handler

    return decorate


def unsubscribe(handler: object) -> bool:
    """Undo :func:`subscribe` in every app of the process; return whether the function was subscribed so."""
    return shared_subscriptions.remove(handler)
