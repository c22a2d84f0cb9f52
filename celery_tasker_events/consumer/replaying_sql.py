"""Every SQL statement that a replay sends beyond those that look and those that send, with why it is as it is."""

from __future__ import annotations

from psycopg import sql

__all__ = ["ADVANCE", "BEGIN", "CREATE_JOURNAL", "FORGET", "IN_CHUNK", "JOURNAL_EXISTS", "NAMES", "PORTIONS"]

# As looking_sql.IN_CHUNK, but only what is sent again.
IN_CHUNK = sql.SQL("""
select msg_id, message::text, headers::text from {table}
where msg_id > %(after)s and msg_id <= %(up_to)s and ({condition})
order by msg_id limit %(limit)s
""")

NAMES = sql.SQL("""
select {event_name}, count(*) from {table}
where msg_id > %(after)s and msg_id <= %(up_to)s and ({condition})
group by 1
""")

# How far each replay is, so that one that was interrupted goes on where it was. A row moves in the transaction that sends
# a batch to its queue: both happen, or neither.
JOURNAL_EXISTS = "select to_regclass('celery_tasker_events_replays') is not null"
CREATE_JOURNAL = """
create table if not exists celery_tasker_events_replays (
    replay_id text not null,
    queue text not null,
    destination text not null,
    wanted jsonb not null,
    began_at timestamp with time zone not null default now(),
    first_id bigint not null,
    done_up_to bigint not null,
    last_id bigint not null,
    primary key (replay_id, queue)
)
"""
BEGIN = """
insert into celery_tasker_events_replays (replay_id, queue, destination, wanted, first_id, done_up_to, last_id)
values (%s, %s, %s, %s::jsonb, %s, %s, %s)
returning began_at
"""
PORTIONS = """
select queue, destination, wanted, began_at, first_id, done_up_to, last_id
from celery_tasker_events_replays where replay_id = %s order by queue
"""

# Nothing comes back if another process has taken the same step: it resumes the same replay.
ADVANCE = """
update celery_tasker_events_replays set done_up_to = %(up_to)s
where replay_id = %(replay_id)s and queue = %(queue)s and done_up_to = %(after)s
returning true
"""

FORGET = "delete from celery_tasker_events_replays where began_at < now() - interval '30 days'"
