"""What a PGMQ queue holds, read with SQL alone."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql


def messages(dsn: str, namespace: str, *, dead_letters: bool = False) -> list[dict[str, Any]]:
    """All messages of a namespace's queue, oldest first, without taking them; none if there is no such queue."""
    table = f"q_{namespace}_domain_events{'_dlq' if dead_letters else ''}"
    with psycopg.connect(dsn) as connection:
        exists = connection.execute("select to_regclass(%s) is not null", [f"pgmq.{table}"]).fetchone()
        if exists != (True,):
            return []
        query = sql.SQL("select message from {} order by msg_id").format(sql.Identifier("pgmq", table))
        return [message for (message,) in connection.execute(query)]


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event_name"] for event in events]
