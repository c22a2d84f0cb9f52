"""BaseSubscriber: a subscriber that is a class, with its patterns and its hooks."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from celery_tasker_events.bus.pattern import Pattern, patterns_of
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.log import event_fields, failure_fields, logger

__all__ = ["BaseSubscriber", "Steps", "steps_of"]

S = TypeVar("S", bound="BaseSubscriber")

#: A call of a subscriber, step by step: each step's value may be an awaitable, and its outcome is sent back. The
#: generator returns whether the event was handled, or raises.
Steps = Generator[Any, Any, bool]


class BaseSubscriber:
    """Derive from this, say what it subscribes to, and write ``handle``; register it with ``events.register_subscriber``.

    ``handle`` and each hook may be plain or ``async def``. All of them run on the thread of the bus, one after the other.

    Attributes:
        subscribes_to: One pattern or several; a class attribute, a property or a method that returns them.
    """

    subscribes_to: Any = ()

    def handle(self, event: DomainEvent) -> Any:
        """Do what is to be done about the event."""
        raise NotImplementedError

    def before_handle(self, event: DomainEvent) -> Any:
        """Called before ``handle``; False: this event is skipped."""
        return True

    def after_handle(self, event: DomainEvent) -> Any:
        """Called when ``handle`` has returned."""

    def on_handle_error(self, event: DomainEvent, error: BaseException) -> Any:
        """Called when ``handle`` or one of the hooks above has raised.

        Args:
            error: A TimeoutError if an ``async def`` was cancelled because it took too long. A plain function that takes
                too long can't be cancelled, so this is not called for it.
        """

    @classmethod
    def make(cls: type[S]) -> S:
        """Make an object of the class, where the user gave none.

        Raises:
            TypeError: if that needs arguments.
        """
        try:
            return cls()
        except TypeError as error:
            raise TypeError(f"{_name(cls)} can't be made without arguments ({error}): register an object of it") from error

    def patterns(self) -> tuple[Pattern, ...]:
        """The checked patterns.

        Raises:
            ValueError: if one is bad, or if there is none.
            TypeError: if ``handle`` is missing.
        """
        if type(self).handle is BaseSubscriber.handle:
            raise TypeError(f"{_name(type(self))} has no method handle(self, event)")
        given = self.subscribes_to
        try:
            return patterns_of(given() if callable(given) else given)
        except ValueError as error:
            raise ValueError(f"{_name(type(self))}.subscribes_to: {error}") from None


def steps_of(subscriber: BaseSubscriber, event: DomainEvent) -> Steps:
    """One call of ``handle`` with the hooks around it."""
    try:
        if (yield subscriber.before_handle(event)) is False:
            return False
        yield subscriber.handle(event)
        yield subscriber.after_handle(event)
    except BaseException as error:
        yield from _tell(subscriber, event, error)
        raise
    return True


def _tell(subscriber: BaseSubscriber, event: DomainEvent, error: BaseException) -> Generator[Any, Any, None]:
    try:
        yield subscriber.on_handle_error(event, error)
    except BaseException as hook_error:  # a hook about an error must not hide it
        name = _name(type(subscriber))
        extra = failure_fields(event_fields(event), hook_error)
        logger.warning("Hook on_handle_error of subscriber %s failed", name, exc_info=hook_error, extra=extra)


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
