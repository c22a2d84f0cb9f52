"""Connections to Postgres: the pool of one process, and single connections for commands."""

from __future__ import annotations

import logging
import os
import sys
import time
import weakref
from typing import Any

import psycopg
from psycopg import pq, waiting
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolTimeout

from celery_tasker_events.durable.queues import Connection

__all__ = ["connect", "make_pool"]

_NAME = "tasker-events-pool"

#: Seconds after which who waits for a connection looks whether the attempt has failed: the pool itself tells nobody.
_LOOK_AFTER = 0.1

#: The names of the pool's threads, and of the one that asks it, start with these.
_OUR_THREADS = (_NAME, "tasker-events-writer")

#: What counts unless the DSN or the environment says otherwise.
_DEFAULTS = {
    "fallback_application_name": "celery-tasker-events",
    # Seconds after which a connection attempt is given up.
    "connect_timeout": 5,
    # A server that vanished without a word is noticed within half a minute, not after the quarter of an hour, or the two
    # hours, that the operating system takes.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def _arguments(dsn: str) -> dict[str, Any]:
    # What libpq takes from its variables, PGCONNECT_TIMEOUT say, or from the service that PGSERVICE names.
    environment = {option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.val is not None}
    given = environment | set(conninfo_to_dict(dsn))
    # A service that the DSN names is looked up only when libpq connects: it must not be overruled by what is passed.
    defaults = {} if "service" in given else _DEFAULTS
    return {
        **{key: value for key, value in defaults.items() if key not in given},
        "autocommit": True,
        # A pooler in transaction mode hands each transaction to another server process, which knows no statement
        # that was prepared on the last one.
        "prepare_threshold": None,
        # What is sent is UTF-8.
        "client_encoding": "UTF8",
    }


def connect(dsn: str) -> Connection:
    """Open one connection, in autocommit.

    Raises:
        psycopg.OperationalError: if there is no way to connect.
    """
    return psycopg.connect(dsn, **_arguments(dsn))


def make_pool(dsn: str) -> ConnectionPool[Connection]:
    """Return an open pool that connects when it is first asked; one connection is enough for the one writer thread."""
    logging.getLogger("psycopg.pool").addFilter(_is_not_ours)
    return _Pool(dsn)


class _PatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """Waits for the server without stopping eventlet's hub: psycopg does so for gevent, but does not know eventlet."""

    def wait(self, gen: Any, interval: float = 0.1, *rest: Any, **options: Any) -> Any:
        if _eventlet_has_patched():
            return waiting.wait_selector(gen, self.pgconn.socket, interval, *rest, **options)
        return super().wait(gen, interval, *rest, **options)


def _eventlet_has_patched() -> bool:
    # Another thread may be in the middle of importing it.
    is_patched = getattr(sys.modules.get("eventlet.patcher"), "is_monkey_patched", None)
    return is_patched is not None and bool(is_patched("select"))


class _Pool(ConnectionPool[Connection]):
    """Says why there is no connection."""

    def __init__(self, dsn: str) -> None:
        self._why_not: psycopg.Error | None = None
        pool = self

        class OurConnection(_PatientConnection):
            @classmethod
            def connect(cls, *args: Any, **kwargs: Any) -> Any:
                try:
                    connection = super().connect(*args, **kwargs)
                except psycopg.Error as error:
                    pool._why_not = error
                    raise
                pool._why_not = None
                return connection

        super().__init__(
            dsn,
            connection_class=OurConnection,
            configure=_open_connections.add,
            kwargs=_arguments(dsn),
            min_size=0,
            max_size=1,
            num_workers=1,
            # The writer backs off by itself: the pool gives up soon, so that it tries again whenever it is asked.
            reconnect_timeout=1,
            timeout=3,
            name=_NAME,
            open=True,
        )

    def getconn(self, timeout: float | None = None) -> Connection:
        self._why_not = None
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            try:
                return super().getconn(min(_LOOK_AFTER, max(0.0, deadline - time.monotonic())))
            except PoolTimeout:
                if self._why_not is not None:
                    raise PoolTimeout(str(self._why_not)) from None
                if time.monotonic() >= deadline:
                    raise


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Keep psycopg's lines about each of our attempts out of the log: the writer tells an outage once, with its reason."""
    return not (record.threadName or "").startswith(_OUR_THREADS)


_open_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _leave_sockets_to_the_parent() -> None:
    # To close a connection here would tell the server that the parent leaves. Its descriptor leads nowhere instead, so
    # that the object, which nobody uses any more, can't reach the parent's socket nor what later has the same number.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for connection in list(_open_connections):
        if not connection.closed:
            os.dup2(nowhere, connection.fileno(), inheritable=False)
    os.close(nowhere)
    _open_connections.clear()


os.register_at_fork(after_in_child=_leave_sockets_to_the_parent)
