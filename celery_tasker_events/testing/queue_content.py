"""What a PGMQ queue holds, read with SQL alone."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from celery_tasker_events.durable.message import dead_letter_queue
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.event import queue_name

__all__ = ["messages"]


def messages(dsn: str, namespace: str, *, dead_letters: bool = False) -> list[dict[str, Any]]:
    """Return all messages of a namespace's queue, oldest first, without taking them; none if there is no such queue."""
    queue = queue_name(namespace)
    table = f"q_{dead_letter_queue(queue) if dead_letters else queue}"
    with connect(dsn) as connection:
        exists = connection.execute("select to_regclass(%s) is not null", [f"pgmq.{table}"]).fetchone()
        if exists != (True,):
            return []
        query = sql.SQL("select message from {} order by msg_id").format(sql.Identifier("pgmq", table))
        return [message for (message,) in connection.execute(query)]
