"""An idempotency store that is a table: it outlives the process, and all consumers that use it know the same."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from typing import Any

from psycopg import sql as composing
from psycopg_pool import ConnectionPool

from celery_tasker_events.consumer import sql
from celery_tasker_events.consumer.idempotency import Answer, Claim, IdempotencyStore
from celery_tasker_events.durable.pool import connect, make_pool
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.durable.sql import LOCK_SETUP
from celery_tasker_events.errors import ConfigurationError

__all__ = ["PostgresStore"]

#: Seconds between two removals of what is old.
FORGET_EVERY = 600.0

# With "_at" after it, it is an index of 63 characters at most.
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,59}")


class PostgresStore(IdempotencyStore):
    """Remembers in a table, which is made if it is missing.

    Without a DSN it uses the consumer's database, and an event is marked as seen in the same transaction that removes its
    message: both happen, or neither.

    Args:
        dsn: Of another database; there, an event is marked just before its message is removed.
        table: Its name, in the first schema of the search path.
        retention: Seconds for which an event is remembered.
        claim_expiry: Seconds after which a handler that has not ended is taken for dead if another message brings the same
            event. The same message may come again as soon as its lease has ended.

    Raises:
        ConfigurationError: if one of them is wrong.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        table: str = "celery_tasker_events_seen",
        retention: float = 7 * 24 * 3600,
        claim_expiry: float = 3600,
    ) -> None:
        if not _TABLE.fullmatch(table):
            raise ConfigurationError(f"table is {table!r}: it must be a name of a-z, 0-9 and _, 60 characters at most")
        if not (retention > 0 and claim_expiry > 0):
            raise ConfigurationError("retention and claim_expiry must be seconds, more than 0")
        self._own_dsn = dsn
        self._table = table
        self._retention = retention
        self._expiry = claim_expiry
        self._forget_at = 0.0
        self._pool: ConnectionPool[Connection] | None = None
        self._lock = threading.Lock()

    def prepare(self, connection: Connection, dsn: str) -> None:
        with self._lock:
            if self._pool is None:
                self._pool = make_pool(self._own_dsn or dsn)
        if self._own_dsn is None:
            self._create(connection)
        else:
            with connect(self._own_dsn) as own:
                self._create(own)

    def claim(self, claim: Claim) -> Answer:
        with self._lock:
            pool = self._pool
        if pool is None:
            raise RuntimeError("the store is closed")
        with pool.connection() as connection:
            row = connection.execute(self._statement(sql.CLAIM), {**claim._asdict(), "expiry": self._expiry}).fetchone()
        assert row is not None
        is_granted, is_done = row
        if is_granted:
            return Answer.GRANTED
        return Answer.DONE if is_done else Answer.BUSY

    def settle(self, connection: Connection, done: Sequence[Claim], released: Sequence[Claim]) -> None:
        if self._own_dsn is None:
            self._settle(connection, done, released)
        elif (done or released) and self._pool is not None:
            with self._pool.connection() as own, own.transaction():
                self._settle(own, done, released)

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=1)

    def _create(self, connection: Connection) -> None:
        # Who may use the table need not be allowed to make one.
        if connection.execute(sql.STORE_EXISTS, [self._table]).fetchone() == (True,):
            return
        with connection.transaction():
            connection.execute(LOCK_SETUP)
            connection.execute(self._statement(sql.CREATE_STORE))
            connection.execute(self._statement(sql.CREATE_STORE_INDEX))

    def _settle(self, connection: Connection, done: Sequence[Claim], released: Sequence[Claim]) -> None:
        if done:
            connection.execute(self._statement(sql.CONFIRM), _columns(done))
        if released:
            connection.execute(self._statement(sql.RELEASE), _columns(released))
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + FORGET_EVERY
            connection.execute(self._statement(sql.FORGET), [self._retention])

    def _statement(self, statement: str) -> composing.Composed:
        names = {"table": composing.Identifier(self._table), "index": composing.Identifier(f"{self._table}_at")}
        return composing.SQL(statement).format(**names)


def _columns(claims: Sequence[Claim]) -> list[Any]:
    # One row may not be inserted twice by one statement.
    return [list(column) for column in zip(*dict.fromkeys(claims), strict=True)]
