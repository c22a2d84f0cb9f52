"""A queue of many events, and Postgres' own counters of how many of its rows were read."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import make_conninfo
from sending import event
from worker_process import wait_until

from celery_tasker_events import envelope
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import create_queues

#: Seconds to fill it on a slow machine decide how long it is; what is measured here does not depend on it.
LENGTH = 200_000
QUEUE = "payments_domain_events"
TABLE = f"pgmq.q_{QUEUE}"

# An event a second, the last one now, each with an id of its own time; three of them make a workflow.
FILL = f"""
insert into {TABLE} (enqueued_at, vt, message, headers)
select at, at, %(template)s::jsonb || jsonb_build_object(
    'event_id', overlay(overlay(%(event_id)s placing left(hex, 8) from 1 for 8) placing right(hex, 4) from 10 for 4),
    'metadata', (%(template)s::jsonb->'metadata') || jsonb_build_object('correlation_id', 'order-' || number / 3)
), '{{}}'
from generate_series(1, {LENGTH}) as number,
     lateral (select now() - ({LENGTH} - number) * interval '1 second' as at) as moment,
     lateral (select lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') as hex) as hex
order by number
"""
EVENT_ID = "00000000-0000-7abc-8def-123456789abc"


def fill(dsn: str) -> None:
    """Fill the queue of a new database."""
    template = envelope.by_name("native").to_message(event(payload={"amount": 99.99})).decode()
    with connect(dsn) as connection:
        create_queues(connection, [QUEUE])
        connection.execute(FILL, {"template": template, "event_id": EVENT_ID})
        connection.execute(f"vacuum analyze {TABLE}")


def rows_read(dsn: str) -> tuple[int, int]:
    """How many rows of the queue were read in sequence, and by way of an index, since it was made."""
    with psycopg.connect(dsn) as connection:
        query = "select seq_tup_read, coalesce(idx_tup_fetch, 0) from pg_stat_user_tables where relid = %s::regclass"
        row = connection.execute(query, [TABLE]).fetchone()
        assert row is not None
        return row


def settled(dsn: str) -> tuple[int, int]:
    """The same when all connections that looked have ended: they tell then how much they read."""
    gone = "select count(*) from pg_stat_activity where application_name = 'celery-tasker-events'"
    with psycopg.connect(make_conninfo(dsn, application_name="counting"), autocommit=True) as connection:
        wait_until(lambda: connection.execute(gone).fetchone() == (0,), "the connections that looked end")
    return rows_read(dsn)
