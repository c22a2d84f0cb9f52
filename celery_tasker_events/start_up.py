"""What a worker's main process checks and makes ready before it forks its children."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from celery_tasker_events.catalog import Catalog
from celery_tasker_events.errors import ConfigurationError, SpoolUnusable
from celery_tasker_events.process import current_diversion
from celery_tasker_events.scraping.endpoint import metrics_problems
from celery_tasker_events.settings import Settings
from celery_tasker_events.telemetry.log import error_fields, logger
from celery_tasker_events.telemetry.telemetry import import_otel
from celery_tasker_events.telemetry.totals import EventSeries

if TYPE_CHECKING:
    from celery_tasker_events.durable.spool.spool import Spool

__all__ = ["check", "declared_series", "has_orphans", "make_ready"]


def check(catalog: Catalog, settings: Settings) -> None:
    """Raise ConfigurationError with all that keeps the declared events from being published.

    A database that can't be reached is no reason not to start: that is logged, and events wait for it.
    """
    # Not with the first event: what is imported before the fork the children share, and no task waits for it.
    from celery_tasker_events import runtime  # noqa: F401  # only loaded here
    from celery_tasker_events.durable.readiness import database_problems

    import_otel()
    problems = [*catalog.problems, *catalog.unbound, *metrics_problems(settings)]
    if current_diversion() is None:
        problems += database_problems(settings, catalog.durable_namespaces(), catalog.durable_namespaces(by_hand=False))
    # Even where there are problems: a misspelt field may be why.
    for warning in catalog.warnings:
        logger.warning("%s", warning)
    if problems:
        raise ConfigurationError(problems)


def make_ready(catalog: Catalog, settings: Settings) -> None:
    """Make the spools' files: they are quick to open then for a child that has only a moment left."""
    # Also where nothing is made: what finds their folder is imported before the fork, too.
    spools = _spools(settings)
    if catalog.durable_namespaces() and current_diversion() is None:
        for spool in spools:
            try:
                spool.open()
                spool.close()
            except SpoolUnusable as error:
                logger.warning("Durable domain events can't wait on disk, only in memory: %s", error, extra=error_fields(error))


def has_orphans(settings: Settings) -> bool:
    """Whether processes that have died left something in a spool."""
    return any(spool.has_orphans() for spool in _spools(settings))


def declared_series(catalog: Catalog) -> list[EventSeries]:
    """Return the counters that a worker shows before it has counted anything."""
    declared = ((event.declaration, event.namespace) for event in catalog.events())
    return [
        EventSeries("published", declaration.name, namespace, declaration.delivery_mode.value, "")
        for declaration, namespace in declared
        if declaration.delivery_mode.reaches_pgmq
    ]


def _spools(settings: Settings) -> Iterable[Spool]:
    from celery_tasker_events.runtime import make_spools

    return make_spools(settings).values()
