"""Every SQL statement that the durable path sends, with why it is as it is. PGMQ's public functions only."""

from __future__ import annotations

__all__ = [
    "CREATE_EXTENSION",
    "CREATE_QUEUE",
    "EXTENSION_AVAILABLE",
    "LOCK_SETUP",
    "MISSING_RIGHTS",
    "PGMQ",
    "QUEUES",
    "SEND",
    "SEND_WITHOUT_HEADERS",
    "SEND_ONE",
    "SEND_ONE_NAMED",
    "SEND_SINGLE",
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

# PGMQ 1.4 knows no headers.
SEND_WITHOUT_HEADERS = """
select batch.queue, sent.msg_id
from jsonb_to_recordset(%s::jsonb) as batch (queue text, messages jsonb),
     lateral pgmq.send_batch(batch.queue, array(select jsonb_array_elements(batch.messages))) as sent (msg_id)
"""

# For connections of others, whose driver is not known: each parameter is text, whatever type a driver would make of it.
_SEND_ONE = "select pgmq.send(cast({} as text), cast({} as jsonb), cast({} as jsonb))"

SEND_ONE = _SEND_ONE.format("%(queue)s", "%(message)s", "%(headers)s")

SEND_ONE_NAMED = _SEND_ONE.format(":queue", ":message", ":headers")

# A batch of one, which does not pay for being taken out of a list.
SEND_SINGLE = _SEND_ONE.format("%s", "%s", "%s")

# Two processes that create the same queue at once would collide inside CREATE TABLE IF NOT EXISTS, so everything that
# creates something takes this lock first, until its transaction ends.
LOCK_SETUP = "select pg_advisory_xact_lock(hashtextextended('celery_tasker_events setup', 0))"

# The catalogs answer whatever the role's rights are. Installed as SQL, PGMQ keeps no version: its functions tell.
PGMQ = """
select current_database(),
       to_regnamespace('pgmq') is not null,
       (select extversion from pg_extension where extname = 'pgmq'),
       array(
           select oidvectortypes(proargtypes) from pg_proc
           where proname = 'send_batch' and pronamespace = to_regnamespace('pgmq')
       )
"""

EXTENSION_AVAILABLE = "select exists (select from pg_available_extensions where name = 'pgmq')"

CREATE_EXTENSION = "create extension if not exists pgmq"

# A table that was dropped without pgmq.drop_queue is still listed; creating the queue again brings it back.
QUEUES = "select queue_name from pgmq.list_queues() where to_regclass('pgmq.q_' || queue_name) is not null"

CREATE_QUEUE = "select pgmq.create(%s)"

# Which of these queues can't be written to, each with the role, a right that it lacks, and PGMQ's owner.
MISSING_RIGHTS = """
select wanted.queue, current_user, needed.right_name, pg_get_userbyid(schema.nspowner)
from unnest(%s::text[]) as wanted (queue)
     cross join pg_namespace as schema
     left join pg_class as queue on queue.relnamespace = schema.oid and queue.relname = 'q_' || wanted.queue
     cross join lateral (values
         ('USAGE on schema pgmq', has_schema_privilege(schema.oid, 'usage')),
         ('CREATE on schema pgmq to create it', queue.oid is not null or has_schema_privilege(schema.oid, 'create')),
         ('INSERT on its table', queue.oid is null or has_table_privilege(queue.oid, 'insert')),
         ('SELECT on msg_id of its table', queue.oid is null or has_column_privilege(queue.oid, 'msg_id', 'select'))
     ) as needed (right_name, is_given)
where schema.nspname = 'pgmq' and not needed.is_given
order by wanted.queue
"""
