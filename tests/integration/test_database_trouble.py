"""What Postgres may answer: events wait for what can be mended, and only what it dislikes becomes a dead letter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from queues import messages
from worker_process import wait_until

from celery_tasker_events import DomainEvents

QUEUES = ("payments_domain_events", "payments_domain_events_dlq")

# Raises the error that the event asks for, as the server would.
RAISES = """
create function raise_wish() returns trigger language plpgsql as $$
begin
    if new.message->'payload'->>'state' is not null then
        raise exception 'as wished' using errcode = new.message->'payload'->>'state';
    end if;
    return new;
end $$;
create trigger wish before insert on pgmq.q_payments_domain_events for each row execute function raise_wish();
"""

DAWDLES = """
create function dawdle() returns trigger language plpgsql as 'begin perform pg_sleep(0.02); return new; end';
create trigger wish before insert on pgmq.q_payments_domain_events for each row execute function dawdle();
"""


def publish(events: DomainEvents, numbers: Iterator[int] | range, state: str | None = None) -> None:
    for number in numbers:
        assert events.publish("payment.processed", {"number": number, "state": state}, namespace="payments")


def numbers(dsn: str) -> list[int]:
    return [message["payload"]["number"] for message in messages(dsn, "payments")]


@pytest.fixture
def run() -> Iterator[Callable[..., None]]:
    def run(dsn: str, statements: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statements.encode())

    return run


@pytest.fixture
def alter(run: Callable[..., None]) -> Callable[..., None]:
    def alter(dsn: str, change: str) -> None:
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        able = "-c default_transaction_read_only=off -c statement_timeout=0"
        with psycopg.connect(dsn, autocommit=True, options=able) as connection:
            connection.execute(sql.SQL("alter database {} {}").format(sql.Identifier(str(name)), sql.SQL(change)))

    return alter


@pytest.fixture
def queue_dsn(dsn: str, run: Callable[..., None]) -> str:
    run(dsn, "; ".join(f"select pgmq.create('{queue}')" for queue in QUEUES))
    return dsn


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("state", ["23514", "54001", "P0001"])
def test_what_the_data_is_to_blame_for_is_parked_alone(queue_dsn, publish_to, run, state):
    run(queue_dsn, RAISES)
    events = publish_to(queue_dsn)

    publish(events, range(10))
    publish(events, range(10, 11), state)
    publish(events, range(11, 20))
    assert events.drain(30)

    assert numbers(queue_dsn) == [number for number in range(20) if number != 10]
    assert len(messages(queue_dsn, "payments", dead_letters=True)) == 1


@pytest.mark.parametrize("state", ["25006", "40P01", "42703", "53100", "57P03"])
def test_what_can_be_mended_is_waited_for_and_told_once(queue_dsn, publish_to, run, caplog, state):
    run(queue_dsn, RAISES)
    events = publish_to(queue_dsn)

    publish(events, range(10), state)
    wait_until(lambda: told(caplog), "the trouble is told")
    assert not events.drain(0.5)
    run(queue_dsn, "drop trigger wish on pgmq.q_payments_domain_events")
    assert events.drain(30)

    assert numbers(queue_dsn) == list(range(10))
    assert messages(queue_dsn, "payments", dead_letters=True) == []
    down, up = told(caplog)
    assert down.startswith("Durable domain events wait")
    assert "as wished" in down
    assert up == "Durable domain events are published again"


def test_a_statement_timeout_makes_smaller_batches(queue_dsn, publish_to, run, alter):
    run(queue_dsn, DAWDLES)
    alter(queue_dsn, "set statement_timeout = '500ms'")
    events = publish_to(queue_dsn)

    publish(events, range(100))
    assert events.drain(60)

    assert numbers(queue_dsn) == list(range(100))
    assert messages(queue_dsn, "payments", dead_letters=True) == []


@pytest.mark.parametrize("setting", ["statement_timeout = '1ms'", "default_transaction_read_only = on"])
def test_a_setting_of_the_database_that_forbids_writing_is_waited_out(queue_dsn, publish_to, run, alter, caplog, setting):
    run(queue_dsn, DAWDLES)
    alter(queue_dsn, f"set {setting}")
    events = publish_to(queue_dsn)

    publish(events, range(5))
    wait_until(lambda: told(caplog), "the trouble is told")
    # A connection keeps the settings that it began with: only a new one can succeed.
    alter(queue_dsn, "reset all")
    assert events.drain(30)

    assert numbers(queue_dsn) == list(range(5))
    assert len(told(caplog)) == 2, told(caplog)


def test_a_queue_whose_table_was_dropped_by_hand_comes_back(queue_dsn, publish_to, run):
    events = publish_to(queue_dsn)
    run(queue_dsn, "drop table pgmq.q_payments_domain_events")

    publish(events, range(3))
    assert events.drain(30)

    assert numbers(queue_dsn) == [0, 1, 2]


def test_a_database_that_is_not_there_yet_is_waited_for_and_its_name_is_told(postgres, publish_to, caplog):
    dsn = postgres.database_dsn("made_later")
    events = publish_to(dsn)

    publish(events, range(3))
    wait_until(lambda: told(caplog), "the trouble is told", timeout=60)
    postgres.create_database("made_later")
    assert events.drain(60)

    assert numbers(dsn) == [0, 1, 2]
    assert 'database "made_later" does not exist' in told(caplog)[0]
    assert len(told(caplog)) == 2, told(caplog)
