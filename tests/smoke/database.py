"""The database of a test, wherever it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg
from psycopg.rows import dict_row

QUEUE = "payments_domain_events"
QUEUES = (QUEUE, f"{QUEUE}_dlq")


class Database(NamedTuple):
    """A fresh database with PGMQ and the shop's queues.

    Attributes:
        dsn: How the test reaches it.
        worker_dsn: How the worker reaches it, which in a container is another way.
    """

    dsn: str
    worker_dsn: str

    def read(self, count: int, *, patience: int = 20) -> list[dict[str, Any]]:
        """Take that many events from the shop's queue, waiting for them; fewer, if they don't come."""
        found: list[dict[str, Any]] = []
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as connection:
            while len(found) < count:
                # Arguments: queue, visibility timeout, quantity, seconds to wait, milliseconds between two looks.
                query = "select * from pgmq.read_with_poll(%s, 600, %s, %s, 20)"
                rows = connection.execute(query, [QUEUE, count - len(found), patience]).fetchall()
                if not rows:
                    break
                found.extend(rows)
        return [row["message"] for row in found]

    def count(self, queue: str = QUEUE) -> int:
        """How many messages have ever been sent to the queue."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute("select total_messages from pgmq.metrics(%s)", [queue]).fetchone()
            assert row is not None
            return int(row[0])
