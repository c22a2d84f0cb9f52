"""Installs PGMQ where it is missing and creates queues: idempotent, and safe when several processes do it at once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import psycopg

from celery_tasker_events.durable import sql
from celery_tasker_events.errors import PgmqMissing

__all__ = ["SetupReport", "check_pgmq", "create_queues", "set_up"]

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class SetupReport:
    """What setting up a database changed.

    Attributes:
        installed: ``"extension"`` or ``"SQL <version>"`` if PGMQ was installed now, None if it was there.
        created: Queues that were created now.
        existing: Queues that were there.
    """

    installed: str | None
    created: tuple[str, ...]
    existing: tuple[str, ...]


def check_pgmq(connection: Connection) -> None:
    """Raise PgmqMissing if the connection's database has no PGMQ."""
    if not _one(connection, sql.PGMQ_INSTALLED):
        raise PgmqMissing(f"database {_one(connection, sql.DATABASE_NAME)!r}")


def create_queues(connection: Connection, queues: Collection[str]) -> tuple[str, ...]:
    """Create those of the queues that are missing, and return their names.

    Raises:
        PgmqMissing: if the database has no PGMQ.
    """
    with connection.transaction():
        connection.execute(sql.LOCK_SETUP)
        check_pgmq(connection)
        existing = {name for (name,) in connection.execute(sql.QUEUES)}
        missing = tuple(sorted(set(queues) - existing))
        for queue in missing:
            connection.execute(sql.CREATE_QUEUE, [queue])
    return missing


def set_up(connection: Connection, queues: Collection[str]) -> SetupReport:
    """Install PGMQ if it is missing, as an extension where the server has it and as plain SQL else, and create queues."""
    with connection.transaction():
        connection.execute(sql.LOCK_SETUP)
        installed = None if _one(connection, sql.PGMQ_INSTALLED) else _install(connection)
        created = create_queues(connection, queues)
    return SetupReport(installed, created, tuple(sorted(set(queues) - set(created))))


def _install(connection: Connection) -> str:
    if _one(connection, sql.EXTENSION_AVAILABLE):
        connection.execute(sql.CREATE_EXTENSION)
        return "extension"
    # Imported here: only this needs the client, and a worker that never installs should not pay for it.
    from pgmq.install import install_pgmq_from_sql

    return f"SQL {install_pgmq_from_sql(conn=connection)}"


def _one(connection: Connection, query: str) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None, query
    return row[0]
