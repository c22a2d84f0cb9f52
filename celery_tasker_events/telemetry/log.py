"""The package's logger, its structured fields, and a limit on how often the same trouble is told."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from celery_tasker_events.event import DomainEvent

__all__ = [
    "RateLimitedWarning",
    "current_error_fields",
    "dropped_fields",
    "error_fields",
    "event_fields",
    "failure_fields",
    "logger",
]

logger = logging.getLogger("celery_tasker_events")

#: Characters of an error's text that are told: a validator may repeat a whole payload in it.
MAX_ERROR_LENGTH = 10_000


def event_fields(event: DomainEvent) -> dict[str, Any]:
    """The fields that every log line about an event carries as ``extra``."""
    return {
        "event_id": event.event_id,
        "event_name": event.event_name,
        "queue_name": event.queue_name,
        "task_uuid": event.metadata.task_uuid,
        "correlation_id": event.metadata.correlation_id,
        "namespace": event.metadata.namespace,
    }


def error_fields(error: BaseException) -> dict[str, Any]:
    """The fields of an error: text that any log handler can write, whatever the user's exception is like."""
    try:
        message = str(error)
    except Exception as str_error:  # what tells of an error must not make a second one
        message = f"<str() of {type(error).__name__} raised {type(str_error).__name__}>"
    if len(message) > MAX_ERROR_LENGTH:
        message = f"{message[:MAX_ERROR_LENGTH]}... ({len(message)} characters)"
    return {"error": message.encode("utf-8", "backslashreplace").decode(), "error_type": type(error).__name__}


def failure_fields(fields: Mapping[str, Any], error: BaseException) -> dict[str, Any]:
    """The fields of a log line about an event that failed: those of a published one, and the error's."""
    return {**fields, "message_id": None, **error_fields(error)}


def current_error_fields() -> dict[str, Any]:
    """The fields of the exception that is being handled; none where none is."""
    error = sys.exc_info()[1]
    return {} if error is None else error_fields(error)


def dropped_fields(fields: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The fields of a log line about an event that was dropped without any exception."""
    return {**fields, "message_id": None, "error": reason, "error_type": "Dropped"}


class RateLimitedWarning:
    """Logs a warning at most once per interval, with how many there were since the last.

    Args:
        message: With one ``%d`` for that number, then one ``%s`` for each argument of :meth:`add`.
        interval: Seconds between two log lines.
    """

    def __init__(self, message: str, interval: float = 10.0) -> None:
        self._message = message
        self._interval = interval
        self._lock = threading.Lock()
        self._count = 0
        self._next = 0.0

    def add(self, *arguments: object, fields: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """Count one more, and log if it is time; of several, the last one's arguments are told.

        Args:
            fields: Makes the line's ``extra`` fields, if it is time.
        """
        with self._lock:
            self._count += 1
            now = time.monotonic()
            if now < self._next:
                return
            count, self._count, self._next = self._count, 0, now + self._interval
        extra = None if fields is None else {**fields(), "count": count}
        logger.warning(self._message, count, *arguments, extra=extra)
