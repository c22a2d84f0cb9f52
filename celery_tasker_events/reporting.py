"""How an event fared, told to all who want to know: counters, log, telemetry, and the event's own publisher."""

from __future__ import annotations

from typing import Any

from celery_tasker_events.building import Draft
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import error_fields, event_fields, failure_fields, logger
from celery_tasker_events.telemetry.telemetry import Telemetry
from celery_tasker_events.telemetry.trail import Trail

__all__ = ["Reporter"]


class Reporter:
    """Tells how drafts fare.

    Args:
        survived: Which exceptions of hooks are logged and go no further.
    """

    def __init__(self, counters: Counters, telemetry: Telemetry, survived: type[BaseException]) -> None:
        self._counters = counters
        self._telemetry = telemetry
        self._survived = survived

    def follow(self, draft: Draft, fields: dict[str, Any]) -> Trail:
        """Begin the trail of an event. ``fields``: its log fields, ``delivery_mode`` included."""
        draft.trail = self._telemetry.trail(fields, draft.outcome.fired_at, draft.outcome.trace)
        return draft.trail

    def skipped(self, draft: Draft) -> None:
        """A hook decided against the event."""
        declaration = draft.bound.declaration
        mode = declaration.delivery_mode.value
        self._counters.add("skipped", declaration.name, draft.bound.namespace, draft.stage, mode=mode)

    def failed(self, draft: Draft, error: BaseException, fields: dict[str, Any], remark: str = "") -> None:
        """The event failed at the draft's stage.

        Args:
            fields: Its log fields, ``delivery_mode`` included.
            remark: Added to the log line.
        """
        name = draft.bound.declaration.name
        self._counters.add("failed", name, draft.bound.namespace, draft.stage, mode=fields["delivery_mode"])
        told = error_fields(error)
        logger.warning(
            "Domain event %s not published: %s: %s: %s%s",
            name,
            draft.stage,
            told["error_type"],
            told["error"],
            remark,
            extra=failure_fields(fields, error),
        )
        (draft.trail or self.follow(draft, fields)).failed(draft.stage, error)

    def after_publish(self, draft: Draft, event: DomainEvent) -> None:
        """Call the publisher's hook: the event is on its way, so an error in there is no failure of it."""
        publisher = draft.bound.publisher
        try:
            publisher.after_publish(event)
        except self._survived as error:
            extra = failure_fields(event_fields(event), error)
            logger.warning("Hook after_publish of publisher %r failed", publisher.name, exc_info=error, extra=extra)

    def on_publish_error(self, draft: Draft, error: BaseException, fields: dict[str, Any]) -> None:
        """Call the publisher's hook: one about an error must not make a second one."""
        publisher = draft.bound.publisher
        try:
            publisher.on_publish_error(draft.event, draft.bound.declaration, error)
        except self._survived as hook_error:
            extra = failure_fields(fields, hook_error)
            logger.warning("Hook on_publish_error of publisher %r failed", publisher.name, exc_info=hook_error, extra=extra)
