"""A system outside: it knows nothing of Celery nor of this project, only Postgres, a queue's name and the client ``pgmq``."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any

from pgmq import SyncPGMQueue
from psycopg.conninfo import conninfo_to_dict, make_conninfo

QUEUE = "payments_domain_events"


def consume(dsn: str, workflow_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Read the events of these workflows from the queue and delete them.

    A consumer of its own would read whatever comes. This one asks for this run's workflows only, because the database
    may be shared and other messages in it are someone else's.

    """
    events: list[dict[str, Any]] = []
    # The client overlooks a Unix socket's folder in a URI, and would connect to localhost: it gets key=value pairs.
    connection = make_conninfo("", **conninfo_to_dict(dsn))
    # PGMQ is there already, perhaps not as an extension: the client must not try to create that.
    with closing(SyncPGMQueue(conn_string=connection, init_extension=False, pool_size=1)) as client:
        for workflow_id in workflow_ids:
            # What was read is hidden from other readers for 30 seconds: time enough to deal with it and delete it.
            mine = {"metadata": {"task_uuid": workflow_id}}
            while isinstance(messages := client.read(QUEUE, vt=30, qty=100, conditional=mine), list) and messages:
                events.extend(message.message for message in messages)
                client.delete_batch(QUEUE, [message.msg_id for message in messages])
    return events
