"""The settler: commits settlements, and sees to it that one which Postgres refuses does not keep the others back."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psycopg
from psycopg import errors

from celery_tasker_events.consumer.idempotency import IdempotencyStore
from celery_tasker_events.consumer.settling import Action, Settlement, commit
from celery_tasker_events.consumer.statistics import Statistics
from celery_tasker_events.durable.message import dead_letter_queue
from celery_tasker_events.durable.queues import Connection, create_queues
from celery_tasker_events.durable.trouble import Treatment, treatment_of
from celery_tasker_events.telemetry.log import RateLimitedWarning, error_fields, logger

__all__ = ["MAX_BATCH", "Settler"]

#: Settlements in one transaction.
MAX_BATCH = 500


class Settler:
    """Commits what was decided about messages, and counts and tells it."""

    def __init__(self, store: IdempotencyStore | None, statistics: Statistics) -> None:
        self._store = store
        self._statistics = statistics
        self._trouble = RateLimitedWarning("%d messages can't be settled and are kept: %s: %s")

    def settle(self, connection: Connection, batch: Sequence[Settlement]) -> list[Settlement]:
        """Commit what can be committed, and return the rest.

        Raises:
            psycopg.Error: if nothing can be committed now.
        """
        try:
            commit(connection, batch, self._store)
        except Exception as error:
            if _concerns_all(error):
                raise
            return self._settle_apart(connection, batch, error)
        self._tell(batch)
        return []

    def _settle_apart(self, connection: Connection, batch: Sequence[Settlement], error: Exception) -> list[Settlement]:
        if isinstance(error, errors.UndefinedTable) and self._create_dead_letter_queues(connection, batch):
            return self.settle(connection, batch)
        if len(batch) > 1:
            return [failed for settlement in batch for failed in self.settle(connection, [settlement])]
        (settlement,) = batch
        told = error_fields(error)
        self._trouble.add(told["error_type"], told["error"].strip(), fields=lambda: {**settlement.fields, **told})
        return [settlement]

    def _create_dead_letter_queues(self, connection: Connection, batch: Sequence[Settlement]) -> bool:
        queues = {dead_letter_queue(each.message.queue) for each in batch if each.action is Action.DEAD_LETTER}
        try:
            return bool(create_queues(connection, queues))
        except psycopg.Error as error:
            if _concerns_all(error):
                raise
            logger.warning("Dead letter queues can't be created: %s", error, extra=error_fields(error))
            return False

    def _tell(self, batch: Sequence[Settlement]) -> None:
        self._statistics.add(settlement.outcome for settlement in batch)
        if logger.isEnabledFor(logging.DEBUG):
            for settlement in batch:
                logger.debug("Domain event settled: %s", settlement.outcome, extra=dict(settlement.fields))


def _concerns_all(error: Exception) -> bool:
    """Whether it is trouble of the connection or of the server. A missing right or table may be one queue's alone."""
    return treatment_of(error) is Treatment.WAIT and not isinstance(error, psycopg.ProgrammingError)
