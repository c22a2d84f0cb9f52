"""Every kind of connection that an event can be written with, as users hold them: one small class for each."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict


class User:
    """A program that writes rows into the table ``orders`` and hands its connection to ``events.publish``.

    Attributes:
        handle: What it gives as ``connection``.
    """

    needs: tuple[str, ...] = ()
    is_async = False
    handle: Any

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def run(self, scenario: Callable[[User], Coroutine[Any, Any, None]]) -> None:
        """Run a scenario with an open connection; where nothing is asynchronous, without an event loop."""
        if self.is_async:
            asyncio.run(self._run(scenario))
            return
        coroutine = self._run(scenario)
        try:
            coroutine.send(None)
        except StopIteration:
            return
        raise AssertionError("something waited for an event loop")

    async def _run(self, scenario: Callable[[User], Coroutine[Any, Any, None]]) -> None:
        async with self.open():
            await scenario(self)

    def open(self) -> contextlib.AbstractAsyncContextManager[None]:
        """The connection, for the length of a block."""
        raise NotImplementedError

    def transaction(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """A transaction that an exception rolls back, and a savepoint inside of another."""
        raise NotImplementedError

    async def execute(self, statement: str) -> None:
        raise NotImplementedError


@contextlib.asynccontextmanager
async def _as_async(manager: contextlib.AbstractContextManager[Any]) -> AsyncIterator[None]:
    with manager:
        yield


class Psycopg(User):
    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        with psycopg.connect(self.dsn) as self.handle:
            yield

    def transaction(self) -> contextlib.AbstractAsyncContextManager[None]:
        return _as_async(self.handle.transaction())

    async def execute(self, statement: str) -> None:
        self.handle.execute(statement)


class PsycopgWithItsOwnCursors(Psycopg):
    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        factories: Any = {"row_factory": psycopg.rows.dict_row, "cursor_factory": psycopg.RawCursor}
        with psycopg.connect(self.dsn, **factories) as self.handle:
            yield


class AsyncPsycopg(User):
    is_async = True

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with await psycopg.AsyncConnection.connect(self.dsn, row_factory=psycopg.rows.dict_row) as self.handle:
            yield

    def transaction(self) -> contextlib.AbstractAsyncContextManager[Any]:
        return self.handle.transaction()

    async def execute(self, statement: str) -> None:
        await self.handle.execute(statement)


class Psycopg2(User):
    needs = ("psycopg2",)
    depth = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        from psycopg2.extras import RealDictConnection

        self.handle = RealDictConnection(self.dsn)
        with contextlib.closing(self.handle):
            yield

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        if self.depth:
            await self.execute("savepoint inner_one")
        self.depth += 1
        try:
            yield
        except BaseException:
            self.depth -= 1
            await self.execute("rollback to savepoint inner_one" if self.depth else "rollback")
            raise
        self.depth -= 1
        await self.execute("release savepoint inner_one" if self.depth else "commit")

    async def execute(self, statement: str) -> None:
        with self.handle.cursor() as cursor:
            cursor.execute(statement)


class Django(User):
    needs = ("django",)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        connections = django_connections(self.dsn)
        self.handle = sys.modules["django.db"].connection
        try:
            yield
        finally:
            connections["default"].close()

    def transaction(self) -> contextlib.AbstractAsyncContextManager[None]:
        from django.db import transaction

        return _as_async(transaction.atomic())

    async def execute(self, statement: str) -> None:
        with self.handle.cursor() as cursor:
            cursor.execute(statement)


class DjangoByAlias(Django):
    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with super().open():
            self.handle = sys.modules["django.db"].connections["default"]
            yield


def django_connections(dsn: str) -> Any:
    """Django's connections, of which the default one leads to that database."""
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres"}})
        django.setup()
    from django.db import connections

    known = conninfo_to_dict(dsn)
    connections["default"].close()
    connections["default"].settings_dict.update(
        NAME=known["dbname"], USER=known["user"], HOST=known["host"], PASSWORD=known.get("password", "")
    )
    return connections


class _Alchemy(User):
    driver = "psycopg"

    @property
    def url(self) -> Any:
        from sqlalchemy import URL

        known = {key: str(value) for key, value in conninfo_to_dict(self.dsn).items()}
        query = {"host": known["host"]}
        return URL.create(f"postgresql+{self.driver}", known["user"], database=known["dbname"], query=query)


class _BlockingAlchemy(_Alchemy):
    needs: tuple[str, ...] = ("sqlalchemy",)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        from sqlalchemy import create_engine

        engine = create_engine(self.url)
        try:
            with self.handle_of(engine) as self.handle:
                yield
        finally:
            engine.dispose()

    def handle_of(self, engine: Any) -> contextlib.AbstractContextManager[Any]:
        raise NotImplementedError

    def transaction(self) -> contextlib.AbstractAsyncContextManager[None]:
        return _as_async(self.handle.begin_nested() if self.handle.in_transaction() else self.handle.begin())

    async def execute(self, statement: str) -> None:
        from sqlalchemy import text

        self.handle.execute(text(statement))


class AlchemyConnection(_BlockingAlchemy):
    def handle_of(self, engine: Any) -> contextlib.AbstractContextManager[Any]:
        return engine.connect()


class AlchemyConnectionOverPsycopg2(AlchemyConnection):
    needs = ("sqlalchemy", "psycopg2")
    driver = "psycopg2"


class AlchemySession(_BlockingAlchemy):
    def handle_of(self, engine: Any) -> contextlib.AbstractContextManager[Any]:
        from sqlalchemy.orm import Session

        return Session(engine)


class AlchemySessionOverPsycopg2(AlchemySession):
    needs = ("sqlalchemy", "psycopg2")
    driver = "psycopg2"


class AlchemyScopedSession(_BlockingAlchemy):
    @contextlib.contextmanager
    def handle_of(self, engine: Any) -> Any:
        from sqlalchemy.orm import scoped_session, sessionmaker

        session = scoped_session(sessionmaker(engine))
        yield session
        session.remove()

    def transaction(self) -> contextlib.AbstractAsyncContextManager[None]:
        session = self.handle()
        return _as_async(session.begin_nested() if session.in_transaction() else session.begin())


class _AsyncAlchemy(_Alchemy):
    needs: tuple[str, ...] = ("sqlalchemy", "greenlet")
    is_async = True

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = create_async_engine(self.url)
        try:
            async with self.handle_of(engine) as self.handle:
                yield
        finally:
            await engine.dispose()

    def handle_of(self, engine: Any) -> contextlib.AbstractAsyncContextManager[Any]:
        raise NotImplementedError

    def transaction(self) -> contextlib.AbstractAsyncContextManager[Any]:
        return self.handle.begin_nested() if self.handle.in_transaction() else self.handle.begin()

    async def execute(self, statement: str) -> None:
        from sqlalchemy import text

        await self.handle.execute(text(statement))


class AsyncAlchemyConnection(_AsyncAlchemy):
    def handle_of(self, engine: Any) -> contextlib.AbstractAsyncContextManager[Any]:
        return engine.connect()


class AsyncAlchemyConnectionOverAsyncpg(AsyncAlchemyConnection):
    needs = ("sqlalchemy", "greenlet", "asyncpg")
    driver = "asyncpg"


class AsyncAlchemySession(_AsyncAlchemy):
    def handle_of(self, engine: Any) -> contextlib.AbstractAsyncContextManager[Any]:
        from sqlalchemy.ext.asyncio import AsyncSession

        return AsyncSession(engine)


class AsyncAlchemySessionOverAsyncpg(AsyncAlchemySession):
    needs = ("sqlalchemy", "greenlet", "asyncpg")
    driver = "asyncpg"


class AsyncAlchemyScopedSession(_AsyncAlchemy):
    @contextlib.asynccontextmanager
    async def handle_of(self, engine: Any) -> AsyncIterator[Any]:
        from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker

        session = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        yield session
        await session.remove()

    def transaction(self) -> contextlib.AbstractAsyncContextManager[Any]:
        session = self.handle()
        return session.begin_nested() if session.in_transaction() else session.begin()


USERS: tuple[type[User], ...] = (
    Psycopg,
    PsycopgWithItsOwnCursors,
    AsyncPsycopg,
    Psycopg2,
    Django,
    DjangoByAlias,
    AlchemyConnection,
    AlchemyConnectionOverPsycopg2,
    AlchemySession,
    AlchemySessionOverPsycopg2,
    AlchemyScopedSession,
    AsyncAlchemyConnection,
    AsyncAlchemyConnectionOverAsyncpg,
    AsyncAlchemySession,
    AsyncAlchemySessionOverAsyncpg,
    AsyncAlchemyScopedSession,
)


async def settled(value: Any) -> Any:
    """What ``events.publish`` says, awaited where it is to be."""
    return await value if isinstance(value, Awaitable) else value
