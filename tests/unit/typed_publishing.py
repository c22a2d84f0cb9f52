"""What type checkers make of ``events.publish``: checked by test_typing.py, never run."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session
from typing_extensions import assert_type

from celery_tasker_events import DomainEvents


async def publish(
    events: DomainEvents,
    psycopg_connection: psycopg.Connection[dict[str, Any]],
    async_psycopg_connection: psycopg.AsyncConnection,
    connection: Connection,
    session: Session,
    scoped: scoped_session[Session],
    async_connection: AsyncConnection,
    async_session: AsyncSession,
    async_scoped: async_scoped_session[AsyncSession],
    maybe: Session | None,
) -> None:
    assert_type(events.publish("a.b", 1), str | None)
    assert_type(events.publish("a.b", 1, connection=None), str | None)
    assert_type(events.publish("a.b", 1, connection=maybe), str | None)
    assert_type(events.publish("a.b", 1, connection=psycopg_connection), str | None)
    assert_type(events.publish("a.b", 1, connection=connection), str | None)
    assert_type(events.publish("a.b", 1, connection=session), str | None)
    assert_type(events.publish("a.b", 1, connection=scoped), str | None)
    publishing: Coroutine[Any, Any, str | None] = events.publish("a.b", 1, connection=async_psycopg_connection)
    assert_type(await publishing, str | None)
    assert_type(await events.publish("a.b", 1, connection=async_connection), str | None)
    assert_type(await events.publish("a.b", 1, connection=async_session), str | None)
    assert_type(await events.publish("a.b", 1, connection=async_scoped), str | None)
    events.publish("a.b", 1, connection="postgresql://")  # type: ignore[call-overload]  # refused
    events.publish("a.b", 1, connection=psycopg_connection.cursor())  # type: ignore[call-overload]  # refused
    await events.publish("a.b", 1, connection=session)  # type: ignore[misc]  # refused
    events.publish("a.b", 1, connection=async_session)  # type: ignore[unused-coroutine]  # refused


def misspelt() -> None:
    from celery_tasker_events import DomainEvent5  # type: ignore[attr-defined]  # noqa: F401
