"""Names of queues on the command line, which a shell completes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from celery.app.utils import find_app
from psycopg.conninfo import make_conninfo

from celery_tasker_events.cli.database import Database, named_database
from celery_tasker_events.consumer.looking import connect_to_look, find_queues
from celery_tasker_events.event import queue_name
from celery_tasker_events.plugin import DomainEvents

__all__ = ["complete_queue", "declared_queues"]

#: Seconds that a shell may wait for the database; libpq knows no less.
TIMEOUT = 2


def complete_queue(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the namespaces, and the queues of dead letters, that begin so: of the database, or else those declared."""
    try:
        app = _app_of(ctx)
        names = set(_names_in_database(ctx, app)) or {_namespace(queue) for queue in declared_queues(app)}
    except Exception:  # a shell has no use for an error, whatever went wrong
        return []
    return [name for name in sorted(names) if name.startswith(incomplete)]


def declared_queues(app: Any) -> set[str]:
    """Return the queues of an app's declarations; none without an app, or if they can't be told."""
    if app is None:
        return set()
    try:
        app.loader.import_default_modules()
        return {queue_name(namespace) for namespace in DomainEvents.of(app).catalog.durable_namespaces()}
    except Exception:  # whatever is wrong with the app is told by the commands that need it
        return set()


def _app_of(ctx: click.Context) -> Any:
    if ctx.obj is not None:
        return ctx.obj.app
    # While a shell completes, no command has run: Celery has not loaded the app that it was given by name.
    given = ctx.find_root().params
    app = given.get("app")
    if not isinstance(app, str):
        return app
    sys.path.insert(0, given.get("workdir") or str(Path.cwd()))
    return find_app(app)


def _names_in_database(ctx: click.Context, app: Any) -> Iterable[str]:
    given: Database | None = ctx.params.get("database")
    database = given or named_database(None if app is None else DomainEvents.of(app).settings.dsn)
    if database is None:
        return ()
    try:
        with connect_to_look(make_conninfo(database.dsn, connect_timeout=TIMEOUT)) as connection:
            queues = find_queues(connection, dead_letters=True)
    except Exception:  # what the app declares is the next best
        return ()
    return [queue.name if queue.is_dead_letters else queue.namespace or queue.name for queue in queues]


def _namespace(queue: str) -> str:
    return queue.removesuffix("_domain_events")
