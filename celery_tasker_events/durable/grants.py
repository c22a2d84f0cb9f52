"""The SQL that gives a publisher role and a consumer role the rights on PGMQ that they need, and no more.

PGMQ's functions run with the rights of who calls them, so the rights on the queues' tables are what counts. Which functions
there are, and with which arguments, differs between PGMQ's versions: the printed SQL looks for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from psycopg.sql import SQL, Composed, Identifier, Literal

from celery_tasker_events.durable.message import dead_letter_queue

__all__ = ["grants"]

_HEAD = """\
-- Rights on PGMQ for domain events. Run it as the role that owns PGMQ and its queues, after domain-events setup, and
-- again when there are new queues: psql --set ON_ERROR_STOP=1 --file <this>
begin;
"""

_SHARED = """
grant usage on schema pgmq to {role};
grant select on pgmq.meta to {role};
do $grants$
declare
    needed regprocedure;
begin
    for needed in
        select oid from pg_proc where pronamespace = 'pgmq'::regnamespace and proname = any ({functions})
    loop
        execute format('grant execute on function %s to %I', needed, {name});
    end loop;
end $grants$;
"""

# An insert tells the ids of the new messages, which is to read that one column.
_PUBLISHER_TABLE = "grant insert, select (msg_id) on {queue} to {role};\n"

# Where a queue notifies its listeners, a trigger keeps account of it with the rights of who inserts.
_PUBLISHER_NOTIFIES = """\
do $grants$
begin
    if to_regclass('pgmq.notify_insert_throttle') is not null then
        execute format('grant select, update (last_notified_at) on pgmq.notify_insert_throttle to %I', {name});
    end if;
end $grants$;
"""

# A reader hides what it reads for a while; it changes neither message nor headers. The sequence is for pgmq.metrics.
_CONSUMER_TABLE = """\
grant select, delete on {queue} to {role};
do $grants$
begin
    execute (
        select format('grant update (%s) on %s to %I', string_agg(quote_ident(attname), ', '), attrelid::regclass, {name})
        from pg_attribute
        where attrelid = {queue_text}::regclass and attname in ('vt', 'read_ct', 'last_read_at')
        group by attrelid
    );
end $grants$;
grant select on {sequence} to {role};
grant insert, select (msg_id) on {archive} to {role};
"""

# A consumer parks what it can't handle, and asks whether queues notify.
_CONSUMER_LETTERS = "grant insert, select (msg_id) on {letters} to {role};\n"
_CONSUMER_NOTIFIED = """\
do $grants$
begin
    if to_regclass('pgmq.notify_insert_throttle') is not null then
        execute format('grant select on pgmq.notify_insert_throttle to %I', {name});
    end if;
end $grants$;
"""

_PUBLISHER_FUNCTIONS = ("_send_batch", "_validate_batch_params", "format_table_name", "list_queues", "send", "send_batch")
_CONSUMER_FUNCTIONS = (
    *("archive", "delete", "format_table_name", "list_queues", "metrics", "pop", "read", "read_with_poll", "set_vt"),
    *("read_grouped", "read_grouped_with_poll", "read_grouped_rr", "read_grouped_rr_with_poll"),
    *("read_grouped_head", "read_grouped_head_with_poll", "list_notify_insert_throttles", "send"),
)


def grants(queues: Collection[str], publishers: Collection[str], consumers: Collection[str]) -> str:
    """Return the SQL, for psql.

    Args:
        queues: Names of PGMQ queues; their dead letter queues are added.
        publishers: Names of roles that send messages and dead letters, and can't read them.
        consumers: Names of roles that read, delete and archive, and can send dead letters only.

    Raises:
        ValueError: if a role's name can't be written into the SQL.
    """
    for role in (*publishers, *consumers):
        if not role or "\0" in role or "$grants$" in role:
            raise ValueError(f"bad name of a role: {role!r}")
    every_queue = sorted({*queues, *map(dead_letter_queue, queues)})
    parts = [part for role in publishers for part in _for_publisher(role, every_queue)]
    parts += [part for role in consumers for part in _for_consumer(role, every_queue)]
    return "".join((_HEAD, *(part.as_string() for part in parts), "\ncommit;"))


def _for_publisher(role: str, queues: Collection[str]) -> Iterator[Composed]:
    yield _shared(role, _PUBLISHER_FUNCTIONS)
    yield SQL(_PUBLISHER_NOTIFIES).format(name=Literal(role))
    for queue in queues:
        yield SQL(_PUBLISHER_TABLE).format(role=Identifier(role), queue=Identifier("pgmq", f"q_{queue}"))


def _for_consumer(role: str, queues: Collection[str]) -> Iterator[Composed]:
    yield _shared(role, _CONSUMER_FUNCTIONS)
    yield SQL(_CONSUMER_NOTIFIED).format(name=Literal(role))
    for queue in queues:
        table = Identifier("pgmq", f"q_{queue}")
        yield SQL(_CONSUMER_TABLE).format(
            role=Identifier(role),
            name=Literal(role),
            queue=table,
            queue_text=Literal(table.as_string()),
            sequence=Identifier("pgmq", f"q_{queue}_msg_id_seq"),
            archive=Identifier("pgmq", f"a_{queue}"),
        )
        if queue.endswith(dead_letter_queue("")):
            yield SQL(_CONSUMER_LETTERS).format(role=Identifier(role), letters=table)


def _shared(role: str, functions: Collection[str]) -> Composed:
    return SQL(_SHARED).format(role=Identifier(role), name=Literal(role), functions=Literal(list(functions)))
