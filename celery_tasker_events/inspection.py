"""``celery inspect domain_events``: what a worker answers about its domain events, summed over all its processes."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

from celery.worker.control import inspect_command, nok

from celery_tasker_events.bus.statistics import CallResult
from celery_tasker_events.errors import ConfigurationError, SpoolUnusable
from celery_tasker_events.plugin import DomainEvents
from celery_tasker_events.settings import Settings, masked_dsn
from celery_tasker_events.telemetry.counters import NAMES
from celery_tasker_events.telemetry.totals import Totals

__all__ = ["CALL_RESULTS", "COMMAND", "answer"]

COMMAND = "domain_events"

CALL_RESULTS = tuple(result.value for result in CallResult)


# A worker knows a remote control command when its module is imported, and so does the command line.
@inspect_command(name=COMMAND)  # type: ignore[untyped-decorator]  # celery has no type hints
def _domain_events(state: Any, **_: Any) -> dict[str, Any]:
    """What became of the domain events of this worker's tasks, summed over all its processes."""
    try:
        return answer(DomainEvents.of(state.app))
    except (ConfigurationError, OSError) as error:
        refusal: dict[str, Any] = nok(str(error))
        return refusal


def answer(plugin: DomainEvents) -> dict[str, Any]:
    """Return the answer as JSON data.

    It runs on the worker's event loop: it reads a few small files, and waits for no other process.
    """
    totals = plugin.totals()
    subscribers = _subscribers(totals)
    return {
        "pid": os.getpid(),
        "processes": totals.processes,
        "complete": totals.is_complete,
        "totals": _totals(totals),
        "events": _events(totals),
        "depth": dict(totals.depths),
        "connections": {state.name.lower(): count for state, count in totals.connections.items()},
        "databases": [_database(plugin.settings, dsn) for dsn in plugin.settings.dsns],
        "subscriber_errors": sum(s["failed"] + s["timed_out"] for s in subscribers),
        "subscribers": subscribers,
    }


def _database(settings: Settings, dsn: str) -> dict[str, Any]:
    own = sorted(namespace for namespace, other in settings.namespace_dsns.items() if other == dsn)
    return {"dsn": masked_dsn(dsn), "namespaces": None if dsn == settings.dsn else own, "spool": _spool(settings, dsn)}


def _spool(settings: Settings, dsn: str) -> dict[str, Any] | None:
    if not settings.spool_max_bytes:
        return None
    # Imported here, as this module is imported wherever the plugin is.
    from celery_tasker_events.durable.spool.place import spool_path
    from celery_tasker_events.durable.spool.report import LOOK_TIMEOUT, spool_totals

    path = spool_path(dsn, settings.spool_dir)
    try:
        return {"path": str(path), **spool_totals(path, LOOK_TIMEOUT)._asdict()}
    except SpoolUnusable as error:
        return {"path": str(path), "error": str(error)}


def _totals(totals: Totals) -> dict[str, int]:
    sums = dict.fromkeys(NAMES, 0)
    for series, count in totals.events.items():
        sums[series.name] += count
    return sums


def _events(totals: Totals) -> list[dict[str, Any]]:
    events: dict[tuple[str, str, str], dict[str, Any]] = {}
    for series, count in sorted(totals.events.items()):
        event = events.setdefault(
            (series.event_name, series.namespace, series.delivery_mode),
            {
                "event": series.event_name,
                "namespace": series.namespace,
                "delivery_mode": series.delivery_mode or None,
                **dict.fromkeys(NAMES, 0),
                "reasons": defaultdict(dict),
            },
        )
        event[series.name] += count
        if series.reason:
            event["reasons"][series.name][series.reason] = count
    return [{**event, "reasons": dict(event["reasons"])} for _, event in sorted(events.items())]


def _subscribers(totals: Totals) -> list[dict[str, Any]]:
    subscribers: dict[str, dict[str, Any]] = {}
    for (name, result), count in sorted(totals.calls.items()):
        subscribers.setdefault(name, {"name": name, **dict.fromkeys(CALL_RESULTS, 0)})[result] += count
    return list(subscribers.values())
