"""Connections that die in the middle, a standby that is promoted, and a primary that is one no more."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from queues import messages
from wheel import give, promote, run
from worker_process import wait_until

from celery_tasker_events import DomainEvents
from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres

QUEUES = ["payments_domain_events", "payments_domain_events_dlq"]

OUR_BACKENDS = "from pg_stat_activity where application_name = 'celery-tasker-events' and datname = current_database()"

# A batch takes a while, so that it can be caught in the middle.
DAWDLES = """
create function dawdle() returns trigger language plpgsql as 'begin perform pg_sleep(0.002); return new; end';
create trigger dawdle before insert on pgmq.q_payments_domain_events for each row execute function dawdle();
"""


def publish(events: DomainEvents, numbers: range) -> None:
    for number in numbers:
        assert events.publish("payment.processed", {"number": number}, namespace="payments")


def ask(dsn: str, query: str) -> Any:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row and row[0]


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def arrived(dsn: str) -> list[int]:
    """The numbers in the order in which each came first; a repeat must be the same event."""
    ids: dict[int, str] = {}
    for message in messages(dsn, "payments"):
        assert ids.setdefault(message["payload"]["number"], message["event_id"]) == message["event_id"]
    assert messages(dsn, "payments", dead_letters=True) == []
    return list(ids)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_connections_that_are_killed_in_the_middle_of_a_batch_lose_nothing(dsn, publish_to):
    events = publish_to(dsn)
    publish(events, range(1))
    assert events.drain(30)
    execute(dsn, DAWDLES)

    for kill in range(5):
        publish(events, range(1 + kill * 100, 101 + kill * 100))
        killing = f"select bool_or(pg_terminate_backend(pid)) {OUR_BACKENDS} and state = 'active'"
        wait_until(lambda query=killing: ask(dsn, query), "a batch is caught in the middle")
    assert events.drain(60)

    assert arrived(dsn) == list(range(501))


def test_a_server_that_crashes_in_the_middle_of_a_batch_loses_nothing(own_postgres, publish_to):
    dsn = own_postgres.dsn
    events = publish_to(dsn)
    publish(events, range(1))
    assert events.drain(30)
    execute(dsn, DAWDLES)

    publish(events, range(1, 301))
    wait_until(lambda: ask(dsn, f"select true {OUR_BACKENDS} and state = 'active'"), "a batch is caught in the middle")
    own_postgres.shut_down("immediate")
    publish(events, range(301, 351))
    own_postgres.start_again()
    assert events.drain(60)

    assert arrived(dsn) == list(range(351))


class Pair(NamedTuple):
    """A primary, and a standby that follows it."""

    primary: EmbeddedPostgres
    standby: EmbeddedPostgres

    @property
    def dsn(self) -> str:
        """Of whichever takes writes."""
        hosts = ",".join(str(conninfo_to_dict(server.dsn)["host"]) for server in self)
        return make_conninfo(self.primary.dsn, host=hosts, target_session_attrs="read-write")

    def wait_until_followed(self) -> None:
        end = ask(self.primary.dsn, "select pg_current_wal_lsn()")
        query = f"select pg_last_wal_replay_lsn() >= '{end}'"
        wait_until(lambda: ask(self.standby.dsn, query), "the standby has all")


@pytest.fixture
def pair(own_postgres: EmbeddedPostgres) -> Iterator[Pair]:
    own_postgres.set_up(QUEUES)
    folder = Path(tempfile.mkdtemp(prefix="pg-standby-"))
    give(folder, own_postgres)
    host = str(conninfo_to_dict(own_postgres.dsn)["host"])
    arguments = ["--write-recovery-conf", "--no-sync", "--checkpoint", "fast", "--host", host, "--username", "postgres"]
    run(own_postgres, "pg_basebackup", *arguments, "--pgdata", str(folder))
    # What every server's folder has that was started once; without it the folder counts as half made.
    mark = folder / "postmaster.opts"
    mark.touch()
    give(mark, own_postgres)
    # The backup holds what belongs to the primary's socket.
    for lock in folder.glob(".s.PGSQL.*.lock"):
        lock.unlink()
    with EmbeddedPostgres(folder, delete=True) as standby:
        yield Pair(own_postgres, standby)


def test_on_a_standby_events_wait_until_it_is_promoted(pair, publish_to, caplog):
    events = publish_to(pair.standby.dsn)

    publish(events, range(20))
    wait_until(lambda: told(caplog), "the trouble is told")
    assert not events.drain(0.5)
    promote(pair.standby)
    assert events.drain(60)

    assert arrived(pair.standby.dsn) == list(range(20))
    down, up = told(caplog)
    assert "cannot execute" in down
    assert "read-only transaction" in down
    assert up == "Durable domain events are published again"


def test_after_a_failover_the_events_go_to_the_new_primary(pair, publish_to):
    events = publish_to(pair.dsn)
    publish(events, range(20))
    assert events.drain(30)
    pair.wait_until_followed()

    pair.primary.shut_down("immediate")
    publish(events, range(20, 40))
    promote(pair.standby)
    assert events.drain(60)

    assert arrived(pair.standby.dsn) == list(range(40))


def test_a_primary_that_takes_no_writes_any_more_is_left_for_the_one_that_does(pair, publish_to):
    events = publish_to(pair.dsn)
    publish(events, range(20))
    assert events.drain(30)
    pair.wait_until_followed()

    promote(pair.standby)
    # The pooled connection stays open, and is of no use.
    execute(pair.primary.dsn, "alter system set default_transaction_read_only = on", "select pg_reload_conf()")
    wait_until(lambda: ask(pair.primary.dsn, "show default_transaction_read_only") == "on", "it takes no writes")
    publish(events, range(20, 40))
    assert events.drain(60)

    assert arrived(pair.standby.dsn) == list(range(40))
    assert arrived(pair.primary.dsn) == list(range(20))
