"""``domain-events grants``: a role that may only publish and one that may only consume, made with the SQL that it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from queues import messages, names
from wheel import program
from worker_process import wait_until

from celery_tasker_events.consumer import Consumer
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import set_up, shortcomings
from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres

APPS = Path(__file__).parent / "apps"
QUEUE = "payments_domain_events"
QUEUES = [f"{name}_domain_events{suffix}" for name in ("payments", "audit") for suffix in ("", "_dlq")]


def grants_command(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "shop", "domain-events", "grants", *arguments],
        cwd=APPS,
        env={**os.environ, "SHOP_SETTINGS": json.dumps({"tasker_events_dsn": "host=nowhere"})},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout


@pytest.fixture(scope="session")
def psql(postgres: EmbeddedPostgres) -> Callable[[str, str], None]:
    def run(dsn: str, script: str) -> None:
        arguments = [program(postgres, "psql"), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", dsn]
        result = subprocess.run(arguments, input=script, capture_output=True, text=True, timeout=60, check=False)
        assert (result.returncode, result.stderr) == (0, "")

    return run


def execute(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def new_role(postgres_dsn: str, kind: str) -> str:
    # With what an identifier must be quoted for.
    name = f"{kind} \"{uuid.uuid4().hex[:8]}'"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
    return name


@pytest.fixture(scope="module")
def strict_dsn(new_database: Callable[..., str]) -> str:
    """A database with the shop's queues in which nobody may call a function that was not granted."""
    dsn = new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        set_up(connection, QUEUES)
        connection.execute("revoke execute on all functions in schema pgmq from public")
    return dsn


@pytest.fixture(scope="module")
def roles(strict_dsn: str, psql: Callable[[str, str], None]) -> dict[str, str]:
    """DSN of each role."""
    roles = {kind: new_role(strict_dsn, kind) for kind in ("publisher", "consumer")}
    psql(strict_dsn, grants_command("--publisher", roles["publisher"], "--consumer", roles["consumer"]))
    return {kind: make_conninfo(strict_dsn, user=role) for kind, role in roles.items()}


def test_a_worker_publishes_events_and_dead_letters_with_the_publisher_role(shop, strict_dsn, roles):
    worker = shop.start(dsn=roles["publisher"])
    shop.send("pay", 1).get(timeout=30)
    shop.send("violates_schema").get(timeout=30)

    parked = wait_until(lambda: messages(strict_dsn, "payments", dead_letters=True), "the dead letter arrives")
    assert names(parked) == ["odd.schema"]
    assert "payment.processed" in names(messages(strict_dsn, "payments"))
    assert "payment.tried" in names(messages(strict_dsn, "audit"))
    assert "will wait" not in worker.log


def test_the_publisher_may_send_where_the_queue_notifies_its_listeners(strict_dsn, roles, publish_to):
    execute(strict_dsn, f"select pgmq.enable_notify_insert('{QUEUE}')")
    events = publish_to(roles["publisher"])

    assert events.publish("payment.heard", {}, namespace="payments")
    assert events.drain(30)

    assert "payment.heard" in names(messages(strict_dsn, "payments"))


@pytest.mark.parametrize(
    "statement",
    [
        f"select * from pgmq.read('{QUEUE}', 30, 1)",
        f"select * from pgmq.pop('{QUEUE}')",
        f"select pgmq.delete('{QUEUE}', 1)",
        f"select pgmq.archive('{QUEUE}', 1)",
        f"select pgmq.purge_queue('{QUEUE}')",
        f"select pgmq.drop_queue('{QUEUE}')",
        "select pgmq.create('other')",
        f"select message from pgmq.q_{QUEUE}",
        f"update pgmq.q_{QUEUE} set message = '{{}}' returning 1",
        f"delete from pgmq.q_{QUEUE} returning 1",
        f"select * from pgmq.a_{QUEUE}",
    ],
)
def test_the_publisher_may_do_nothing_else(roles, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(roles["publisher"], statement)


def test_a_consumer_handles_events_and_parks_dead_letters_with_the_consumer_role(strict_dsn, roles, publish_to):
    execute(strict_dsn, f"select pgmq.enable_notify_insert('{QUEUE}')")
    events = publish_to(roles["publisher"])
    for number in (1, 2):
        assert events.publish("payment.consumed", {"number": number}, namespace="payments")
    assert events.drain(30)
    consumer = Consumer(roles["consumer"], "payments", max_attempts=1, on_success="archive")

    @consumer.on("payment.consumed")
    def handle(event):
        if event.payload["number"] == 2:
            raise RuntimeError("this one can't be handled")

    consumer.run(until_empty=True)

    assert messages(strict_dsn, "payments") == []
    letters = messages(strict_dsn, "payments", dead_letters=True)
    assert [letter["error"]["error"] for letter in letters if letter["event_name"] == "payment.consumed"] == [
        "this one can't be handled"
    ]


def test_the_consumer_reads_hides_archives_and_deletes(strict_dsn, roles):
    sent = execute(strict_dsn, f"select * from pgmq.send_batch('{QUEUE}_dlq', array['1', '2', '3', '4']::jsonb[])")
    archived, deleted, hidden, popped = (number for (number,) in sent)
    consumer = roles["consumer"]

    read = execute(consumer, f"select msg_id from pgmq.read('{QUEUE}_dlq', 0, 100)")
    assert {(archived,), (deleted,), (hidden,), (popped,)} <= set(read)
    assert execute(consumer, f"select pgmq.archive('{QUEUE}_dlq', {archived})") == [(True,)]
    assert execute(consumer, f"select pgmq.delete('{QUEUE}_dlq', {deleted})") == [(True,)]
    assert len(execute(consumer, f"select * from pgmq.set_vt('{QUEUE}_dlq', {hidden}, 60)")) == 1
    assert (popped,) in execute(consumer, f"select msg_id from pgmq.pop('{QUEUE}_dlq', 100)")
    assert execute(consumer, f"select msg_id from pgmq.a_{QUEUE}_dlq") == [(archived,)]
    assert len(execute(consumer, f"select * from pgmq.read_grouped('{QUEUE}', 0, 1)")) <= 1
    assert len(execute(consumer, f"select * from pgmq.metrics('{QUEUE}')")) == 1
    assert (QUEUE,) in execute(consumer, "select queue_name from pgmq.list_queues()")


@pytest.mark.parametrize(
    "statement",
    [
        f"select * from pgmq.send('{QUEUE}', '{{}}')",
        f"select * from pgmq.send_batch('{QUEUE}', array['{{}}']::jsonb[])",
        f"insert into pgmq.q_{QUEUE} (vt, message) values (now(), '{{}}') returning 1",
        f"update pgmq.q_{QUEUE} set message = '{{}}' returning 1",
        f"update pgmq.q_{QUEUE} set headers = '{{}}' returning 1",
        f"delete from pgmq.a_{QUEUE} returning 1",
        f"select pgmq.purge_queue('{QUEUE}')",
        f"select pgmq.drop_queue('{QUEUE}')",
        "select pgmq.create('other')",
    ],
)
def test_the_consumer_may_do_nothing_else(roles, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(roles["consumer"], statement)


def test_a_worker_whose_role_lacks_rights_says_which_and_its_events_wait_for_them(shop, dsn, psql):
    with psycopg.connect(dsn, autocommit=True) as connection:
        set_up(connection, QUEUES)
        connection.execute("grant usage on schema pgmq to public")
    role = new_role(dsn, "stranger")

    worker = shop.start(dsn=make_conninfo(dsn, user=role))
    shop.send("pay", 1).get(timeout=30)
    wait_until(lambda: "Durable domain events wait" in worker.log, "the trouble is told")
    psql(dsn, grants_command("--publisher", role))
    wait_until(lambda: "payment.processed" in names(messages(dsn, "payments")), "the event arrives")

    # Python's own quotes: the role's name has some of its own.
    assert f"events for queue '{QUEUE}' will wait: role {role!r} lacks INSERT on its table" in worker.log
    assert f"domain-events grants --publisher {role}" in worker.log
    assert messages(dsn, "payments", dead_letters=True) == []


def test_a_queue_that_the_role_can_not_create_is_told_with_who_can(strict_dsn, roles):
    with connect(roles["publisher"]) as connection:
        (told,) = shortcomings(connection, [QUEUE, "nowhere_domain_events"])

    assert "events for queue 'nowhere_domain_events' will wait" in told
    assert "lacks CREATE on schema pgmq to create it; run domain-events setup as 'postgres', who owns PGMQ" in told
