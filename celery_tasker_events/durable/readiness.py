"""Whether the configured databases are ready for the declared events: what a worker asks before it starts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import psycopg

from celery_tasker_events.durable.message import dead_letter_queue
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import shortcomings
from celery_tasker_events.errors import DatabaseNotReady, Problem
from celery_tasker_events.event import queue_name
from celery_tasker_events.settings import Settings, masked_dsn
from celery_tasker_events.telemetry.log import error_fields, logger

__all__ = ["database_problems", "queues_by_dsn"]

_SETTING = "tasker_events_dsn"


def queues_by_dsn(settings: Settings, namespaces: Iterable[str]) -> Mapping[str, set[str]]:
    """Return the queues of these namespaces, dead letters included, by the DSN of their database, if they have one."""
    queues: dict[str, set[str]] = {}
    for namespace in namespaces:
        dsn, queue = settings.dsn_of(namespace), queue_name(namespace)
        if dsn is not None:
            queues.setdefault(dsn, set()).update((queue, dead_letter_queue(queue)))
    return queues


def database_problems(settings: Settings, namespaces: Collection[str], of_steps: Collection[str]) -> list[Problem]:
    """Return what keeps durable events from being published; what is odd, but may change, is logged.

    A database that can't be reached is no problem: events wait for it.

    Args:
        namespaces: Of all declared durable events.
        of_steps: Of those that tasks publish; the others are published by hand, maybe within the user's own transaction.
    """
    if homeless := [namespace for namespace in sorted(of_steps) if settings.dsn_of(namespace) is None]:
        return [
            Problem(
                f"durable events are declared (for queue {queue_name(homeless[0])!r}) but no database is: set it to a DSN such "
                "as 'postgresql://user@host/database', or make the events fast",
                _SETTING,
            )
        ]
    if any(settings.dsn_of(namespace) is None for namespace in namespaces):
        logger.warning("tasker_events_dsn is not set: the declared events can be published with a connection only")
    problems = []
    for dsn, queues in queues_by_dsn(settings, namespaces).items():
        try:
            with connect(dsn) as connection:
                for shortcoming in shortcomings(connection, queues):
                    logger.warning("Postgres for domain events: %s", shortcoming)
        except DatabaseNotReady as error:
            problems.append(Problem(str(error), _SETTING))
        except psycopg.Error as error:
            place = masked_dsn(dsn)
            logger.warning("Postgres for domain events (%s) can't be used yet: %s", place, error, extra=error_fields(error))
    return problems
