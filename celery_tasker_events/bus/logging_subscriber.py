"""LoggingSubscriber: a ready-made subscriber that writes each event to the log."""

from __future__ import annotations

import logging
from typing import Any

from celery_tasker_events.bus.subscriber import BaseSubscriber
from celery_tasker_events.event import DomainEvent

__all__ = ["LoggingSubscriber"]


class LoggingSubscriber(BaseSubscriber):
    """Logs what came, from where, and to which workflow it belongs; in the text, and as ``extra`` fields.

    Args:
        logger: A logger or a logger's name.
        level: A number such as ``logging.INFO``, or a name such as ``"INFO"``.
        prefix: Stands before the text, to tell several of these apart: ``"[PAYMENT]"``.
        subscribes_to: One pattern or several.

    Raises:
        ValueError: if the level is unknown.
    """

    def __init__(
        self,
        *,
        logger: logging.Logger | str = "celery_tasker_events.subscriber",
        level: int | str = logging.INFO,
        prefix: str = "",
        subscribes_to: Any = "*",
    ) -> None:
        self.subscribes_to = subscribes_to
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = _level(level)
        self._prefix = f"{prefix} " if prefix else ""

    def handle(self, event: DomainEvent) -> None:
        if not self._logger.isEnabledFor(self._level):
            return
        fields = {
            "event_name": event.event_name,
            "event_id": event.event_id,
            "task_uuid": event.metadata.task_uuid,
            "step_name": event.metadata.step_name,
            "namespace": event.metadata.namespace,
            "correlation_id": event.metadata.correlation_id,
        }
        told = " ".join(f"{name}={value}" for name, value in fields.items())
        self._logger.log(self._level, "%sDomain event received: %s", self._prefix, told, extra=fields)


def _level(level: int | str) -> int:
    number = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    if not isinstance(number, int):
        raise ValueError(f"LoggingSubscriber: level must be a number or a name such as 'INFO', not {level!r}")
    return number
