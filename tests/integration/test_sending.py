"""What a round trip to a real PGMQ brings back, or raises, as psycopg's own cursors do."""

from __future__ import annotations

import signal

import orjson
import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo
from queues import messages

from celery_tasker_events.durable import sending, sql
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import create_queues, send_statement, set_up

TEXTS = ("späte Störung", "14 €", "\U0001f4b6", 'a "quoted" one', "back\\slash", "two\nlines", "%s $1 {}", "")

QUEUES = ("payments_domain_events", "audit_domain_events")


@pytest.fixture
def connection(dsn):
    with connect(dsn) as connection:
        set_up(connection, QUEUES)
        yield connection


def message(text: object, queue: str = QUEUES[0]) -> DurableMessage:
    return DurableMessage(queue, orjson.dumps({"text": text}), orjson.dumps({"x-pgmq-group": "g", "text": text}), {})


def texts(dsn: str, namespace: str) -> list[str]:
    return [stored["text"] for stored in messages(dsn, namespace)]


def test_each_message_arrives_as_it_is_alone_and_in_a_batch(dsn, connection):
    ids = [sending.send(connection, sql.SEND, [message(text)]) for text in TEXTS]
    ids.append(sending.send(connection, sql.SEND, [message(text) for text in TEXTS]))

    assert texts(dsn, "payments") == [*TEXTS, *TEXTS]
    count = len(TEXTS)
    assert ids == [*({QUEUES[0]: [number]} for number in range(1, count + 1)), {QUEUES[0]: [*range(count + 1, 2 * count + 1)]}]
    headers = connection.execute(f"select headers from pgmq.q_{QUEUES[0]} order by msg_id").fetchall()
    assert [header["text"] for (header,) in headers] == [*TEXTS, *TEXTS]


def test_ids_are_told_by_queue(dsn, connection):
    sending.send(connection, sql.SEND, [message("first")])

    ids = sending.send(connection, sql.SEND, [message(text, QUEUES[number % 2]) for number, text in enumerate("abcde")])

    assert ids == {QUEUES[0]: [2, 3, 4], QUEUES[1]: [1, 2]}
    assert texts(dsn, "payments") == ["first", "a", "c", "e"]


def test_another_encoding_of_the_users_changes_nothing(dsn, connection):
    with connect(make_conninfo(dsn, client_encoding="latin1")) as other:
        for text in TEXTS:
            sending.send(other, send_statement(other), [message(text)])

    assert texts(dsn, "payments") == list(TEXTS)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("body", "error"),
    [(rb'{"text":"\u0000"}', errors.UntranslatableCharacter), (b'{"text":', errors.InvalidTextRepresentation)],
)
def test_what_postgres_refuses_is_told_by_its_class_and_the_connection_stays_good(dsn, connection, count, body, error):
    with pytest.raises(error) as caught:
        sending.send(connection, sql.SEND, [message("fine")._replace(body=body)] * count)

    assert caught.value.sqlstate == error.sqlstate
    sending.send(connection, sql.SEND, [message("fine")])
    assert texts(dsn, "payments") == ["fine"]


def test_a_queue_that_is_missing_can_be_made(dsn, connection):
    with pytest.raises(errors.UndefinedTable):
        sending.send(connection, sql.SEND, [message("new", "orders_domain_events")])

    create_queues(connection, {"orders_domain_events"})
    assert sending.send(connection, sql.SEND, [message("new", "orders_domain_events")]) == {"orders_domain_events": [1]}


def test_a_connection_that_is_lost_tells_what_the_server_said(dsn, connection):
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])

    with pytest.raises(psycopg.OperationalError, match="terminating connection due to administrator command"):
        sending.send(connection, sql.SEND, [message("lost")])
    assert connection.closed
    with pytest.raises(psycopg.OperationalError):
        sending.send(connection, sql.SEND, [message("lost")])


def test_who_waits_for_the_server_can_be_interrupted(dsn, connection):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with psycopg.connect(dsn) as other:
            other.execute(f"lock table pgmq.q_{QUEUES[0]} in exclusive mode")
            # Else a call that can't be interrupted would wait for ever.
            connection.execute("set lock_timeout = '10s'")
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                sending.send(connection, sql.SEND, [message("interrupted")])
    finally:
        signal.signal(signal.SIGALRM, before)

    assert texts(dsn, "payments") == []


def test_a_nul_byte_is_refused_and_never_taken_for_the_end(dsn, connection):
    with pytest.raises(psycopg.DataError, match="NUL"):
        sending.send(connection, sql.SEND, [message("fine")._replace(body=b'{"text":1}\0')])

    assert messages(dsn, "payments") == []


def test_in_a_transaction_it_goes_with_that(dsn, connection):
    with connection.transaction():
        sending.send(connection, sql.SEND, [message("rolled back")])
        raise psycopg.Rollback

    assert texts(dsn, "payments") == []


def test_a_trigger_that_keeps_a_message_back_keeps_its_id_back(dsn, connection):
    connection.execute("create function nothing() returns trigger language plpgsql as 'begin return null; end'")
    connection.execute(f"create trigger t before insert on pgmq.q_{QUEUES[0]} for each row execute function nothing()")

    assert sending.send(connection, sql.SEND, [message("kept back")]) == {QUEUES[0]: []}
    assert sending.send(connection, sql.SEND, [message("kept back")] * 2) == {}
