"""From an outcome to its published events, on the dispatcher's thread: built, told of, and handed to the router."""

from __future__ import annotations

from collections.abc import Callable

from celery_tasker_events.building import Draft, Publication
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.errors import EventTooLarge
from celery_tasker_events.record import Record
from celery_tasker_events.reporting import Reporter
from celery_tasker_events.router import DurablePath, Router
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.telemetry import Telemetry

__all__ = ["Pipeline", "Publication"]


class Pipeline:
    """Publishes the events of an outcome one after the other; an error in one never reaches the next.

    Args:
        max_event_bytes: How much of a payload a dead letter keeps; None: all of it.
        on_failure: Told of each event that could not be published.
    """

    def __init__(
        self,
        router: Router,
        durable: DurablePath,
        counters: Counters,
        telemetry: Telemetry | None = None,
        max_event_bytes: int | None = None,
        on_failure: Callable[[Draft, BaseException], None] | None = None,
    ) -> None:
        self._on_failure = on_failure
        self._max_event_bytes = max_event_bytes
        self._router = router
        self._durable = durable
        self._telemetry = telemetry or Telemetry(counters)
        # Hooks are the user's code, and this thread must outlive a SystemExit.
        self._reporter = Reporter(counters, self._telemetry, survived=BaseException)

    def publish(self, publication: Publication) -> None:
        # An event that is skipped or fails is counted too, and may be the only one that this process ever has.
        self._telemetry.attach()
        for bound in publication.events:
            draft = Draft(publication, bound)
            try:
                self._publish_one(draft)
            except BaseException as error:  # see above
                self._fail(draft, error)

    def _publish_one(self, draft: Draft) -> None:
        if not draft.build():
            self._reporter.skipped(draft)
            if draft.confirmation is not None:
                draft.confirmation.settle(kept=True)
            return
        draft.stage = "route"
        mode = draft.bound.declaration.delivery_mode
        fields = draft.fields()
        fields["delivery_mode"] = mode._value_  # ``value`` is the same by a call of a Python function
        trail = self._reporter.follow(draft, fields)
        self._router.route(draft, mode, fields, draft.confirmation, trail)
        if draft.event is not None:
            self._reporter.after_publish(draft, draft.event)

    def _fail(self, draft: Draft, error: BaseException) -> None:
        if isinstance(error, EventTooLarge):
            draft.stage = "size"
        declaration, fields = draft.bound.declaration, draft.failure_fields()
        log_fields = {**fields, "delivery_mode": declaration.delivery_mode.value}
        parked = declaration.delivery_mode.reaches_pgmq
        if self._on_failure is not None:
            self._on_failure(draft, error)
        self._reporter.failed(draft, error, log_fields, "; it is parked as a dead letter" if parked else "")
        if parked:
            record = Record.of_event(draft.outcome, draft.bound, fields["event_id"], draft.idempotency_key)
            letter = DurableMessage.dead_letter(
                declaration,
                draft.bound.namespace,
                draft.stage,
                error,
                draft.payload_text,
                fields,
                outcome_text=record.text(),
                max_bytes=self._max_event_bytes,
            )
            self._durable.send(letter._replace(confirmation=draft.confirmation, fields=log_fields))
        self._reporter.on_publish_error(draft, error, log_fields)
