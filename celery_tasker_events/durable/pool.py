"""Connections to Postgres: the pool of one process, and single connections for commands."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

from celery_tasker_events.durable.queues import Connection

__all__ = ["connect", "make_pool"]

#: Seconds after which a connection attempt is given up, unless the DSN says otherwise.
CONNECT_TIMEOUT = 5


def _arguments(dsn: str) -> dict[str, Any]:
    given = conninfo_to_dict(dsn)
    defaults = {"connect_timeout": CONNECT_TIMEOUT, "application_name": "celery-tasker-events"}
    return {
        **{key: value for key, value in defaults.items() if key not in given},
        "autocommit": True,
        # A pooler in transaction mode hands each transaction to another server process, which knows no statement
        # that was prepared on the last one.
        "prepare_threshold": None,
    }


def connect(dsn: str) -> Connection:
    """Open one connection, in autocommit.

    Raises:
        psycopg.OperationalError: if there is no way to connect.
    """
    return psycopg.connect(dsn, **_arguments(dsn))


def make_pool(dsn: str) -> ConnectionPool[Connection]:
    """Return an open pool that connects when it is first asked; one connection is enough for the one writer thread."""
    return ConnectionPool(
        dsn,
        kwargs=_arguments(dsn),
        min_size=0,
        max_size=1,
        num_workers=1,
        # The writer backs off by itself: the pool gives up soon, so that it tries again whenever it is asked.
        reconnect_timeout=1,
        timeout=3,
        name="tasker-events",
        open=True,
    )
