"""Every SQL statement that looks at messages without taking them, with why it is as it is.

Nothing here calls ``pgmq.read``: that makes a message invisible to others. Messages are read as text and decoded by the
client, so that one which Python can't decode spoils no other.
"""

from __future__ import annotations

from psycopg import sql

__all__ = [
    "ARCHIVED_AT",
    "CORRELATION_ID",
    "COUNT",
    "ENDS",
    "ENTRY",
    "EVENT_ID",
    "EVENT_NAME",
    "EXPLAIN",
    "FIRST_SINCE",
    "IN_CHUNK",
    "IS_NO_REPLAY",
    "LAST_OF_CHUNK",
    "LAST_OF_CHUNK_BACKWARDS",
    "MATCHING",
    "NEWER",
    "NOT_ARCHIVED",
    "OUTCOME",
    "POSITION",
    "QUEUES",
    "RECENT_IDS",
    "REFUSED_WITH_CORRELATION_ID",
    "STATE",
    "TEXT",
    "TEXT_IF_WANTED",
    "TURNED_UP",
]

# An archive may be missing: pgmq.detach_archive leaves it to somebody else.
QUEUES = sql.SQL("""
select queue_name, to_regclass(format('pgmq.%I', 'a_' || lower(queue_name))) is not null
from pgmq.list_queues()
order by queue_name
""")

# One message, as an entry. A visibility timeout may be infinite, or further away than Python's last year.
ENTRY = sql.SQL("""
msg_id, enqueued_at, {archived_at}, read_ct, least(vt, timestamptz '9999-12-01 00:00+00'), {text}, headers::text
""")
TEXT = sql.SQL("message::text")
TEXT_IF_WANTED = sql.SQL("case when {condition} then message::text end")
ARCHIVED_AT = sql.SQL("archived_at")
NOT_ARCHIVED = sql.SQL("null::timestamptz")

# Where the envelopes and dead letters have what a filter asks for. An index serves a filter only if it is on the very
# same expression, so the how-to about looking at events repeats the third and fourth word for word.
EVENT_NAME = sql.SQL("coalesce(message->>'event_name', message->>'type')")
OUTCOME = sql.SQL(
    "coalesce(message->'execution_result'->>'status', message->'payload'->'execution_result'->>'status', message->>'status')"
)
CORRELATION_ID = sql.SQL(
    "coalesce(message->'metadata'->>'correlation_id', message->>'correlationid', message->>'correlation_id')"
)
EVENT_ID = sql.SQL("coalesce(message->>'event_id', message->>'id')")
# By the header alone: what stands in the metadata may be a publisher's own.
IS_NO_REPLAY = sql.SQL("headers->>'replay_id' is null")
# A message that Postgres refused is kept by its dead letter as text, in which the correlation id stands as one of these.
REFUSED_WITH_CORRELATION_ID = sql.SQL(
    "(strpos(message->>'message_text', %(quoted)s) > 0 or strpos(message->>'message_text', %(quoted_in_cloudevent)s) > 0)"
)

# pgmq.metrics counts every row, and reads every page to find the oldest: seconds for a million messages that are not in
# memory. Here a count ends at a limit, and the oldest and newest are the ends of the primary key; ids are handed out
# in order, but for transactions that overlap. A limit of null counts all. Ordering by vt makes its index the cheap way.
STATE = sql.SQL("""
select (select count(*) from (select from {queue} limit %(limit)s::bigint) as counted),
       (select count(*) from (select from {queue} where vt > now() order by vt desc limit %(limit)s::bigint) as invisible),
       (select enqueued_at from {queue} order by msg_id limit 1),
       (select enqueued_at from {queue} order by msg_id desc limit 1),
       (select case when is_called then last_value else 0 end from {sequence})
""")
COUNT = sql.SQL("select count(*) from (select from {table} limit %(limit)s::bigint) as counted")

# What the planner thinks: how many rows a statement gives, and whether an index serves it. It reads no row, and has an
# answer also for a table that was never analysed.
EXPLAIN = sql.SQL("explain (format json) {statement}")

# The lowest and the highest id, from the two ends of the primary key.
ENDS = sql.SQL("select min(msg_id), max(msg_id) from {table}")

# The first id from a moment on, by a binary search along the primary key in one round trip: PGMQ has no index on
# enqueued_at, but it grows with msg_id.
FIRST_SINCE = sql.SQL("""
with recursive search (low, high) as (
    select min(msg_id), max(msg_id) + 1 from {table}
    union all
    select case when probe.enqueued_at < %(moment)s then probe.msg_id + 1 else low end,
           case when probe.enqueued_at < %(moment)s then high else middle end
    from search
    cross join lateral (select (low + high) / 2 as middle) as half
    left join lateral (select msg_id, enqueued_at from {table} where msg_id >= middle order by msg_id limit 1) as probe on true
    where low < high
)
select low from search where low >= high
""")

# A table is read in chunks of so many rows, each a short statement on the primary key: no snapshot is held for long,
# progress can be told, and Ctrl-C ends it at once. Ids have holes, so the end of a chunk is looked up, not computed.
LAST_OF_CHUNK = sql.SQL("""
select max(msg_id)
from (select msg_id from {table} where msg_id > %(after)s and msg_id <= %(up_to)s order by msg_id limit %(rows)s) as chunk
""")
LAST_OF_CHUNK_BACKWARDS = sql.SQL("""
select min(msg_id)
from (select msg_id from {table} where msg_id > %(after)s and msg_id <= %(up_to)s order by msg_id desc limit %(rows)s) as chunk
""")
IN_CHUNK = sql.SQL("""
select {entry} from {table}
where msg_id > %(after)s and msg_id <= %(up_to)s and ({condition})
order by msg_id {direction} limit %(limit)s
""")

# The same without chunks, where an index on the expression of the condition finds the rows.
MATCHING = sql.SQL("select {entry} from {table} where {condition} limit %(limit)s")

# Following. Ids become visible out of order: a transaction that took its id first may commit last. So ids that are
# missing below the last one seen are asked for again, until every transaction has ended that may hold one of them. Who
# writes to a queue holds a lock on its table before it takes an id, and lets go of it after its commit can be seen. Ids of
# transactions would not do: one has none until its first row is written. But a standby knows no others, only which ids
# have ended: there xmin is told, which on a primary would only make gaps wait for transactions elsewhere.
# The oid tells a queue that was dropped and made again, whose message ids start anew.
POSITION = sql.SQL("""
select (case when pg_is_in_recovery() then pg_snapshot_xmin(now_running) else pg_snapshot_xmax(now_running) end)::text::bigint,
       pg_snapshot_xmax(now_running)::text::bigint,
       array(select virtualtransaction from pg_locks
             where relation = to_regclass(%(table)s) and mode = 'RowExclusiveLock' and granted
               and database = (select oid from pg_database where datname = current_database())),
       to_regclass(%(table)s)::oid::bigint
from pg_current_snapshot() as now_running
""")

# A consumer may archive a message at any moment, so queue and archive are read in one statement, from one snapshot. What
# is not wanted comes without its text: its id must be known all the same, or it would look like a gap.
NEWER = sql.SQL("""
(select ({condition}) is true as wanted, {entry} from {table} where msg_id > %(last)s order by msg_id limit %(limit)s)
""")
TURNED_UP = sql.SQL("""
(select ({condition}) is true as wanted, {entry} from {table}
 join unnest(%(lows)s::bigint[], %(highs)s::bigint[]) as gap (low, high) on msg_id between gap.low and gap.high
 order by msg_id limit %(limit)s)
""")
RECENT_IDS = sql.SQL("select msg_id from {table} where msg_id > %(after)s")
