"""The log lines about subscribers that fail, take too long, or are suspended."""

from __future__ import annotations

from celery_tasker_events.bus.calling import SubscriberTimeout
from celery_tasker_events.bus.registry import Subscription
from celery_tasker_events.bus.suspension import MAX_TIMEOUTS
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.log import error_fields, event_fields, failure_fields, logger

__all__ = ["Notices"]


class Notices:
    """Not to be written with a lock held: a log handler that hangs must hold nobody up.

    Args:
        timeout: Seconds that a subscriber may take.
        log_errors: Whether it is logged what subscribers raise.
    """

    def __init__(self, timeout: float, *, log_errors: bool) -> None:
        self._timeout = timeout
        self._log_errors = log_errors

    def failed(self, subscription: Subscription, event: DomainEvent, error: BaseException) -> None:
        if self._log_errors:
            told = error_fields(error)
            logger.warning(
                "Subscriber %s failed: %s: %s",
                subscription.name,
                told["error_type"],
                told["error"],
                exc_info=error,
                extra=failure_fields(event_fields(event), error),
            )

    def timed_out(self, subscription: Subscription, event: DomainEvent, consequence: str) -> None:
        logger.warning(
            "Subscriber %s has not returned within %g s: %s, the others get the event",
            subscription.name,
            self._timeout,
            consequence,
            extra=failure_fields(event_fields(event), SubscriberTimeout(f"not returned within {self._timeout:g} s")),
        )

    def suspended(self, subscription: Subscription) -> None:
        told = "Subscriber %s has not returned in time %d times: it gets no events until it is tried again"
        logger.warning(told, subscription.name, MAX_TIMEOUTS)

    def resumed(self, subscription: Subscription) -> None:
        logger.warning("Subscriber %s has returned in time: it gets events again", subscription.name)
