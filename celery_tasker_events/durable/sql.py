"""Every SQL statement that the durable path sends, with why it is as it is. PGMQ's public functions only."""

from __future__ import annotations

__all__ = [
    "CREATE_EXTENSION",
    "CREATE_QUEUE",
    "DATABASE_NAME",
    "EXTENSION_AVAILABLE",
    "LOCK_SETUP",
    "PGMQ_INSTALLED",
    "QUEUES",
    "SEND",
]

# One parameter, serialised once, carries the messages of all queues, so a batch is one statement, one round trip and
# one commit. The server takes it apart: an array of jsonb built by the client costs several times as much.
# Rows come back in the order of the messages of each queue.
SEND = """
select batch.queue, sent.msg_id
from jsonb_to_recordset(%s::jsonb) as batch (queue text, messages jsonb, headers jsonb),
     lateral pgmq.send_batch(
         batch.queue,
         array(select jsonb_array_elements(batch.messages)),
         array(select jsonb_array_elements(batch.headers))
     ) as sent (msg_id)
"""

# Two processes that create the same queue at once would collide inside CREATE TABLE IF NOT EXISTS, so everything that
# creates something takes this lock first, until its transaction ends.
LOCK_SETUP = "select pg_advisory_xact_lock(hashtextextended('celery_tasker_events setup', 0))"

PGMQ_INSTALLED = "select to_regnamespace('pgmq') is not null"

EXTENSION_AVAILABLE = "select exists (select from pg_available_extensions where name = 'pgmq')"

CREATE_EXTENSION = "create extension if not exists pgmq"

QUEUES = "select queue_name from pgmq.list_queues()"

CREATE_QUEUE = "select pgmq.create(%s)"

DATABASE_NAME = "select current_database()"
