"""Writes one message with a connection of the user's, in its transaction: one small class for each kind of connection.

No library is imported for it: an object can be a library's connection only where that library is loaded already.
"""

from __future__ import annotations

import functools
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any, ClassVar, Protocol

from celery_tasker_events.durable import sql
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.errors import PgmqMissing, PublishingError, QueueMissing, UnsupportedConnection

__all__ = ["AsyncAdapter", "AsyncConnection", "SyncAdapter", "SyncConnection", "adapter_of", "explanation_of"]


class SyncConnection(Protocol):
    """A connection or session whose methods block, as type checkers tell it from an asynchronous one."""

    def commit(self) -> None: ...


class AsyncConnection(Protocol):
    """A connection or session whose methods are awaited."""

    def commit(self) -> Awaitable[None]: ...


class _Adapter(ABC):
    """One kind of connection.

    Attributes:
        classes: Import paths of the classes that it serves, and with them of those derived from them.
    """

    classes: ClassVar[tuple[str, ...]]

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def dialect(self) -> str:
        """What kind of database it leads to, ``"postgresql"`` if it can lead to no other; nothing is sent to find out."""
        return "postgresql"


class SyncAdapter(_Adapter):
    @abstractmethod
    def send(self, message: DurableMessage) -> int:
        """Send the message in the connection's transaction; return PGMQ's id of it.

        Raises:
            Exception: whatever the connection raises.
        """


class AsyncAdapter(_Adapter):
    @abstractmethod
    async def send(self, message: DurableMessage) -> int:
        """As :meth:`SyncAdapter.send`."""


class _Psycopg(SyncAdapter):
    classes = ("psycopg.Connection",)

    def send(self, message: DurableMessage) -> int:
        import psycopg

        # The connection's own cursor factory and row factory are the user's affair, and may be anything.
        with psycopg.Cursor(self._connection, row_factory=psycopg.rows.tuple_row) as cursor:
            return _first(cursor.execute(sql.SEND_ONE, _parameters(message)).fetchone())


class _AsyncPsycopg(AsyncAdapter):
    classes = ("psycopg.AsyncConnection",)

    async def send(self, message: DurableMessage) -> int:
        import psycopg

        async with psycopg.AsyncCursor(self._connection, row_factory=psycopg.rows.tuple_row) as cursor:
            await cursor.execute(sql.SEND_ONE, _parameters(message))
            return _first(await cursor.fetchone())


class _Psycopg2(SyncAdapter):
    classes = ("psycopg2.extensions.connection",)

    def send(self, message: DurableMessage) -> int:
        with self._connection.cursor(cursor_factory=sys.modules["psycopg2.extensions"].cursor) as cursor:
            cursor.execute(sql.SEND_ONE, _parameters(message))
            return _first(cursor.fetchone())


class _Django(SyncAdapter):
    # ``django.db.connection`` is a proxy, ``django.db.connections["default"]`` is not.
    classes = ("django.utils.connection.ConnectionProxy", "django.db.backends.base.base.BaseDatabaseWrapper")

    def dialect(self) -> str:
        # Django's cache is such a proxy, too.
        return str(getattr(self._connection, "vendor", "no database"))

    def send(self, message: DurableMessage) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(sql.SEND_ONE, _parameters(message))
            return _first(cursor.fetchone())


class _SqlAlchemy(SyncAdapter):
    classes = ("sqlalchemy.engine.Connection",)

    def dialect(self) -> str:
        return str(self._connection.dialect.name)

    def send(self, message: DurableMessage) -> int:
        return int(self._connection.execute(_named(), _parameters(message)).scalar_one())


class _SqlAlchemySession(SyncAdapter):
    classes = ("sqlalchemy.orm.Session", "sqlalchemy.orm.scoped_session")

    def dialect(self) -> str:
        return str(self._connection.get_bind().dialect.name)

    def send(self, message: DurableMessage) -> int:
        # Its connection, not its ``execute``: neither the user's ORM hooks nor SQLModel's warnings are meant for this.
        return _SqlAlchemy(self._connection.connection()).send(message)


class _AsyncSqlAlchemy(AsyncAdapter):
    classes = ("sqlalchemy.ext.asyncio.AsyncConnection",)

    def dialect(self) -> str:
        return str(self._connection.dialect.name)

    async def send(self, message: DurableMessage) -> int:
        return int((await self._connection.execute(_named(), _parameters(message))).scalar_one())


class _AsyncSqlAlchemySession(AsyncAdapter):
    classes = ("sqlalchemy.ext.asyncio.AsyncSession", "sqlalchemy.ext.asyncio.async_scoped_session")

    def dialect(self) -> str:
        return str(self._connection.get_bind().dialect.name)

    async def send(self, message: DurableMessage) -> int:
        return await _AsyncSqlAlchemy(await self._connection.connection()).send(message)


_ADAPTERS: tuple[type[SyncAdapter | AsyncAdapter], ...] = (
    _Psycopg,
    _AsyncPsycopg,
    _Psycopg2,
    _Django,
    _SqlAlchemy,
    _SqlAlchemySession,
    _AsyncSqlAlchemy,
    _AsyncSqlAlchemySession,
)


def adapter_of(connection: object) -> SyncAdapter | AsyncAdapter:
    """Return what writes with this connection.

    Raises:
        UnsupportedConnection: if nothing does, or it is no Postgres that it leads to.
    """
    for adapter_class in _ADAPTERS:
        if isinstance(connection, tuple(_loaded(adapter_class.classes))):
            adapter = adapter_class(connection)
            if (dialect := adapter.dialect()) != "postgresql":
                raise UnsupportedConnection(f"the connection leads to {dialect}; events are written to Postgres with PGMQ")
            return adapter
    kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
    raise UnsupportedConnection(
        f"an event can't be written with a {kind}: give a psycopg or psycopg2 connection, an SQLAlchemy Connection or Session "
        "(sync or async), or django.db.connection; of a pool or an engine, a connection; of a cursor, its connection"
    )


def explanation_of(error: BaseException, queue: str, namespace: str) -> PublishingError | PgmqMissing | None:
    """Return an error that says what to do where this one does not, or None."""
    code = _sqlstate(error)
    if code == "42P01":  # undefined_table
        return QueueMissing(queue, namespace)
    if code == "3F000":  # invalid_schema_name
        return PgmqMissing("the database of this connection")
    return None


def _sqlstate(error: BaseException | None) -> str | None:
    """The code of a driver's error, or of the one that SQLAlchemy (``orig``) or Django (``__cause__``) has wrapped."""
    while error is not None:
        code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if isinstance(code, str):
            return code
        error = getattr(error, "orig", None) or error.__cause__
    return None


def _loaded(paths: tuple[str, ...]) -> list[type]:
    parts = (path.rpartition(".") for path in paths)
    found = (getattr(sys.modules.get(module), name, None) for module, _, name in parts)
    return [item for item in found if isinstance(item, type)]


def _parameters(message: DurableMessage) -> dict[str, str]:
    return {"queue": message.queue, "message": message.body.decode(), "headers": message.headers.decode()}


def _first(row: Any) -> int:
    return int(row[0])


@functools.cache
def _named() -> Any:
    from sqlalchemy import text

    return text(sql.SEND_ONE_NAMED)
