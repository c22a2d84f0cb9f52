"""Installs PGMQ where it is missing and creates queues: idempotent, and safe when several processes do it at once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import psycopg

from celery_tasker_events.durable import sql
from celery_tasker_events.errors import PgmqMissing, PgmqTooOld

__all__ = ["SetupReport", "create_queues", "send_statement", "set_up", "shortcomings"]

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


def send_statement(connection: Connection) -> str:
    """Return the statement that sends a batch with the PGMQ of the connection's database: sql.SEND where it has headers.

    Raises:
        PgmqMissing: if the database has no PGMQ.
        PgmqTooOld: if its PGMQ is older than 1.4.
    """
    row = connection.execute(sql.PGMQ).fetchone()
    assert row is not None
    database, installed, version, signatures = row
    place = f"database {database!r}"
    if not installed:
        raise PgmqMissing(place)
    if "text, jsonb[], jsonb[]" in signatures:
        return sql.SEND
    if "text, jsonb[], integer" not in signatures or (version and _numbers(version) < (1, 4)):
        raise PgmqTooOld(place, version)
    return sql.SEND_WITHOUT_HEADERS


def shortcomings(connection: Connection, queues: Collection[str]) -> list[str]:
    """Return what is not as it should be for publishing to these queues, though a worker may start with it.

    Raises:
        DatabaseNotReady: if the database has no PGMQ, or one that is too old.
    """
    found = []
    if send_statement(connection) == sql.SEND_WITHOUT_HEADERS:
        found.append(
            "PGMQ is older than 1.5 and knows no headers: messages go without traceparent, group and idempotency key there"
        )
    for queue, role, right, owner in connection.execute(sql.MISSING_RIGHTS, [sorted(queues)]):
        remedy = (
            f"run domain-events setup as {owner!r}, who owns PGMQ"
            if right.startswith("CREATE")
            else f"give it what domain-events grants --publisher {role} prints"
        )
        found.append(f"events for queue {queue!r} will wait: role {role!r} lacks {right}; {remedy}")
    return found


def create_queues(connection: Connection, queues: Collection[str]) -> tuple[str, ...]:
    """Create those of the queues that are missing, and return their names.

    Raises:
        DatabaseNotReady: if the database has no PGMQ, or one that is too old.
    """
    with connection.transaction():
        connection.execute(sql.LOCK_SETUP)
        send_statement(connection)
        existing = {name for (name,) in connection.execute(sql.QUEUES)}
        missing = tuple(sorted(set(queues) - existing))
        for queue in missing:
            connection.execute(sql.CREATE_QUEUE, [queue])
    return missing


def set_up(connection: Connection, queues: Collection[str]) -> SetupReport:
    """Install PGMQ if it is missing, as an extension where the server has it and as plain SQL else, and create queues.

    Raises:
        PgmqTooOld: if there is a PGMQ older than 1.4.
        psycopg.Error: if Postgres refuses it; InsufficientPrivilege if the role lacks a right.
    """
    with connection.transaction():
        connection.execute(sql.LOCK_SETUP)
        try:
            send_statement(connection)
            installed = None
        except PgmqMissing:
            installed = _install(connection)
        created = create_queues(connection, queues)
    return SetupReport(installed, created, tuple(sorted(set(queues) - set(created))))


def _install(connection: Connection) -> str:
    row = connection.execute(sql.EXTENSION_AVAILABLE).fetchone()
    if row == (True,):
        connection.execute(sql.CREATE_EXTENSION)
        return "extension"
    # Imported here: only this needs the client, and a worker that never installs should not pay for it.
    from pgmq.install import PGMQInstallError, install_pgmq_from_sql

    try:
        return f"SQL {install_pgmq_from_sql(conn=connection)}"
    except PGMQInstallError as error:
        raise error.__cause__ or error from None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
