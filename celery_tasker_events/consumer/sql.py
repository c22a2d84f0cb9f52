"""Every SQL statement that a consumer sends, with why it is as it is. PGMQ's public functions only, and a table of ours."""

from __future__ import annotations

__all__ = [
    "ARCHIVE",
    "CLAIM",
    "CONFIRM",
    "CREATE_STORE",
    "CREATE_STORE_INDEX",
    "DELETE",
    "FORGET",
    "FUNCTIONS",
    "NOTIFY_THROTTLES",
    "QUEUES",
    "READ",
    "READ_GROUPED",
    "READ_HEADS",
    "RELEASE",
    "SEND_LETTER",
    "SET_VT",
    "STORE_EXISTS",
]

# What this database's PGMQ has: grouped reads came with 1.8, reading the heads of groups and a list of the queues that
# notify came later.
FUNCTIONS = """
select to_regprocedure('pgmq.read_grouped_head(text,integer,integer)') is not null,
       to_regprocedure('pgmq.read_grouped(text,integer,integer)') is not null,
       to_regprocedure('pgmq.list_notify_insert_throttles()') is not null
"""

QUEUES = "select queue_name from pgmq.list_queues()"

# Messages come as text: each is decoded by itself, so that one which no decoder takes spoils no other. A function's
# rows have no order of their own.
_COLUMNS = "select msg_id, read_ct, enqueued_at, message::text, headers::text from"

READ = f"{_COLUMNS} pgmq.read(%s, %s::integer, %s::integer) order by msg_id"  # made of constants

# The first message of each group, if it is visible. While it is not, because somebody works on it or because it waits
# for its next attempt, its group gives nothing. Of PGMQ's grouped reads this one alone can be used on a long queue: with
# 100,000 messages in 33,000 groups it takes 0.1 s, where read_grouped looks through the queue once for each group, and
# read_grouped_rr takes a lock for each group, more than a server has by default.
READ_HEADS = f"{_COLUMNS} pgmq.read_grouped_head(%s, %s::integer, %s::integer) order by msg_id"  # as above

# Where PGMQ has nothing better: one message, for a second of the same group would be counted as read before its turn.
READ_GROUPED = f"{_COLUMNS} pgmq.read_grouped(%s, %s::integer, %s::integer) order by msg_id"  # as above

# One by one inside the server: not every PGMQ has the function for an array of ids.
SET_VT = """
select changed.msg_id, changed.read_ct
from unnest(%s::bigint[]) as held (msg_id), lateral pgmq.set_vt(%s, held.msg_id, %s::integer) as changed
"""

# Both return the ids that were there: whoever removes a message is the one who has settled it.
DELETE = "select pgmq.delete(%s, %s::bigint[])"
ARCHIVE = "select pgmq.archive(%s, %s::bigint[])"

# With the group of the message, so that the letters of a workflow can be read in order too.
SEND_LETTER = "select pgmq.send(%s, %s::jsonb, %s::jsonb)"

# The trigger that notifies looks into this list: a queue that is not in it does not notify, whatever triggers it has.
# The list does not survive a crash of the server.
NOTIFY_THROTTLES = "select queue_name, throttle_interval_ms from pgmq.list_notify_insert_throttles()"

# The table of an idempotency store. Its rows go when they are old, so they have an index by age.
CREATE_STORE = """
create table if not exists {table} (
    handler text not null,
    key text not null,
    owner text not null,
    done boolean not null default false,
    at timestamp with time zone not null default now(),
    primary key (handler, key)
)
"""
CREATE_STORE_INDEX = "create index if not exists {index} on {table} (at)"
STORE_EXISTS = "select to_regclass(%s) is not null"

# A claim is granted if nobody has it, if the same message has it from an attempt that was interrupted, or if it has been
# held for so long that whoever had it is gone. The second column is null if it was taken in this very moment.
CLAIM = """
with granted as (
    insert into {table} as held (handler, key, owner) values (%(handler)s, %(key)s, %(owner)s)
    on conflict (handler, key) do update set owner = excluded.owner, at = now()
        where not held.done and (held.owner = excluded.owner or held.at < now() - make_interval(secs => %(expiry)s))
    returning true
)
select exists (select from granted), (select done from {table} where handler = %(handler)s and key = %(key)s)
"""

# In the order of the key, so that two consumers that confirm the same rows wait for each other instead of both.
CONFIRM = """
insert into {table} as held (handler, key, owner, done)
select claims.handler, claims.key, claims.owner, true
from unnest(%s::text[], %s::text[], %s::text[]) as claims (handler, key, owner) order by 1, 2
on conflict (handler, key) do update set done = true, at = now()
"""

RELEASE = """
delete from {table} as held using unnest(%s::text[], %s::text[], %s::text[]) as claims (handler, key, owner)
where held.handler = claims.handler and held.key = claims.key and held.owner = claims.owner and not held.done
"""

# A part of what is old at a time, and nothing that somebody else is just removing.
FORGET = """
delete from {table} where (handler, key) in (
    select handler, key from {table} where at < now() - make_interval(secs => %s) limit 5000 for update skip locked
)
"""
