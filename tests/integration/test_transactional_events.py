"""Publishing inside the user's transaction: what is refused, who it belongs to, and what a crash, threads and tasks do to it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import psycopg_pool
import pytest
from celery import Celery
from psycopg.pq import TransactionStatus
from queues import messages, names
from user_connections import AsyncPsycopg, django_connections
from worker_process import wait_until

from celery_tasker_events import ConfigurationError, DomainEvents, SchemaViolation, UnsupportedConnection, envelope

TEMPLATE = """
name: ordering
namespace_name: shop
domain_events:
  - {name: order.placed, schema: {type: object, required: [order]}, delivery_mode: broadcast}
  - {name: order.shipped, schema: {type: object, required: [order]}, confirm: true}
"""

PROGRAM = """
import sys, psycopg
from celery import Celery
from celery_tasker_events import DomainEvents
events = DomainEvents(Celery("web", broker="memory://"))
with psycopg.connect(sys.argv[1]) as connection:
    connection.execute("insert into orders values (1)")
    print(events.publish("order.placed", 1, namespace="shop", connection=connection), flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.read()
"""


@pytest.fixture
def make_app():
    plugins = []

    def make(**settings):
        app = Celery("web", broker="memory://", set_as_current=False)
        app.conf.update({"tasker_events_namespace": "shop", **{f"tasker_events_{key}": v for key, v in settings.items()}})
        plugins.append(DomainEvents(app))
        return app, plugins[-1]

    yield make
    for plugin in plugins:
        plugin.close(5)


@pytest.fixture
def events(make_app):
    return make_app()[1]


@pytest.fixture
def connection(shop_dsn):
    with psycopg.connect(shop_dsn) as connection:
        yield connection


def orders(dsn):
    with psycopg.connect(dsn) as connection:
        return [number for (number,) in connection.execute("select id from orders order by id")]


def payloads(dsn):
    return [message["payload"] for message in messages(dsn, "shop")]


# What is refused


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"event_name": "placed"}, "bad event name 'placed'"),
        ({"namespace": "No"}, "namespace"),
        ({"delivery_mode": "slow"}, "unknown delivery_mode 'slow'"),
        ({"delivery_mode": "fast"}, "order.placed is fast: .* delivery_mode='durable'"),
        ({"delivery_mode": "broadcast"}, "order.placed is broadcast: "),
        ({"confirm": True}, "the commit is yours"),
    ],
)
def test_what_can_not_go_with_a_transaction_is_refused_before_anything_is_sent(events, connection, fields, told):
    with pytest.raises(ConfigurationError, match=told):
        events.publish(**{"event_name": "order.placed", "payload": 1, "connection": connection, **fields})

    assert connection.info.transaction_status is TransactionStatus.IDLE


@pytest.mark.parametrize(
    "told",
    [
        "a builtins.str: give a psycopg",
        "a psycopg_pool.pool.ConnectionPool: .* of a pool or an engine, a connection",
        "a sqlalchemy.engine.base.Engine: ",
        "a psycopg.Cursor: .* of a cursor, its connection",
        "leads to sqlite; events are written to Postgres",
        "leads to no database; events are written to Postgres",
    ],
)
def test_what_is_no_connection_to_postgres_is_refused_with_what_to_give_instead(events, connection, shop_dsn, told):
    sqlalchemy, cache = pytest.importorskip("sqlalchemy"), pytest.importorskip("django.core.cache").cache
    django_connections(shop_dsn)
    sqlite = sqlalchemy.create_engine("sqlite://")
    with sqlite.connect() as sqlite_connection, connection.cursor() as cursor:
        given = {
            "a b": shop_dsn,
            "a psycopg_": psycopg_pool.ConnectionPool(shop_dsn, open=False),
            "a s": sqlite,
            "a psycopg.": cursor,
            "leads to s": sqlite_connection,
            "leads to n": cache,
        }
        [thing] = [thing for start, thing in given.items() if told.startswith(start)]
        with pytest.raises(UnsupportedConnection, match=told):
            events.publish("order.placed", 1, connection=thing)
    sqlite.dispose()


def test_a_closed_connection_says_that_it_is_closed(events, shop_dsn):
    with psycopg.connect(shop_dsn) as connection:
        pass

    with pytest.raises(psycopg.OperationalError, match="closed"):
        events.publish("order.placed", 1, connection=connection)


def test_a_schema_violation_leaves_the_transaction_as_it_was(make_app, connection, shop_dsn, tmp_path):
    (tmp_path / "ordering.yaml").write_text(TEMPLATE)
    _, events = make_app(templates=[str(tmp_path / "*.yaml")])
    connection.execute("insert into orders values (1)")

    with pytest.raises(SchemaViolation, match="'order' is a required property"):
        events.publish("order.shipped", {"wrong": 1}, connection=connection)

    assert connection.info.transaction_status is TransactionStatus.INTRANS
    connection.rollback()
    assert messages(shop_dsn, "shop", dead_letters=True) == []


def test_a_declared_broadcast_goes_as_a_durable_one_with_all_else_that_is_declared(make_app, connection, shop_dsn, tmp_path):
    (tmp_path / "ordering.yaml").write_text(TEMPLATE)
    _, events = make_app(templates=[str(tmp_path / "*.yaml")], namespace="other")

    with pytest.raises(ConfigurationError, match="is broadcast"):
        events.publish("order.placed", {"order": 1}, connection=connection)
    with pytest.raises(SchemaViolation):
        events.publish("order.placed", {"wrong": 1}, delivery_mode="durable", connection=connection)
    events.publish("order.placed", {"order": 1}, delivery_mode="durable", connection=connection)
    connection.commit()

    assert payloads(shop_dsn) == [{"order": 1}]


# What is written


@pytest.mark.parametrize("form", envelope.NAMES)
def test_the_message_is_as_on_the_durable_path(make_app, connection, shop_dsn, form):
    _, events = make_app(envelope=form, dsn=shop_dsn)

    events.publish("order.placed", {"order": 1}, correlation_id="c-1", idempotency_key="k-1", connection=connection)
    connection.commit()
    events.publish("order.placed", {"order": 1}, correlation_id="c-1", idempotency_key="k-1")
    assert events.drain(30)

    with psycopg.connect(shop_dsn) as reader:
        rows = reader.execute("select message, headers from pgmq.q_shop_domain_events order by msg_id").fetchall()
    here, there = ((envelope.read(message), headers) for message, headers in rows)
    assert envelope.recognise(rows[0][0]).name == form
    assert here[1] == there[1] == {"idempotency_key": "k-1", "x-pgmq-group": "c-1"}
    assert here[0].payload == there[0].payload
    assert here[0].execution_result.status == there[0].execution_result.status == "published"
    assert {**vars(here[0].metadata), "fired_at": 0} == {**vars(there[0].metadata), "fired_at": 0}


def test_inside_a_task_it_belongs_to_the_step_and_a_redelivery_repeats_its_keys(make_app, shop_dsn):
    app, events = make_app()

    @app.task(shared=False)
    def ship():
        with psycopg.connect(shop_dsn) as connection:
            for parcel in (1, 2):
                events.publish("order.shipped", parcel, connection=connection)

    for _ in range(2):
        ship.apply(task_id="task-1")

    metadata = [message["metadata"] for message in messages(shop_dsn, "shop")]
    assert {(m["step_uuid"], m["task_uuid"], m["step_name"]) for m in metadata} == {("task-1", "task-1", "ship")}
    keys = [m["idempotency_key"] for m in metadata]
    assert keys[:2] == keys[2:]
    assert len(set(keys)) == 2


def test_no_thread_is_started_and_no_database_of_its_own_is_needed(events, connection, shop_dsn):
    before = set(threading.enumerate())

    events.publish("order.placed", 1, connection=connection)
    connection.commit()

    assert set(threading.enumerate()) == before
    assert payloads(shop_dsn) == [1]


def test_without_a_transaction_it_commits_at_once(events, shop_dsn):
    with psycopg.connect(shop_dsn, autocommit=True) as connection:
        events.publish("order.placed", 1, connection=connection)
        assert payloads(shop_dsn) == [1]


def test_a_coroutine_that_nobody_awaits_writes_nothing(events, shop_dsn):
    async def scenario(user):
        forgotten = events.publish("order.placed", 1, connection=user.handle)
        await user.handle.commit()
        forgotten.close()

    AsyncPsycopg(shop_dsn).run(scenario)

    assert payloads(shop_dsn) == []


def test_django_asked_from_an_event_loop_refuses_as_it_does_for_every_query(events, shop_dsn):
    exceptions = pytest.importorskip("django.core.exceptions")
    connection = django_connections(shop_dsn)["default"]

    async def ask():
        with pytest.raises(exceptions.SynchronousOnlyOperation):
            events.publish("order.placed", 1, connection=connection)
        await asyncio.to_thread(ask_in_a_thread)

    def ask_in_a_thread():
        # Django's connections belong to a thread each.
        with contextlib.closing(django_connections(shop_dsn)["default"]) as of_thread:
            events.publish("order.placed", 2, connection=of_thread)

    asyncio.run(ask())

    assert payloads(shop_dsn) == [2]


# Crashes, threads, tasks


@pytest.mark.parametrize(("then", "placed"), [("wait", []), ("end", [1])])
def test_a_process_that_is_killed_before_its_commit_leaves_neither(shop_dsn, then, placed):
    arguments = [sys.executable, "-c", PROGRAM, shop_dsn, then]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() not in ("", "None")
        if then == "wait":
            process.send_signal(signal.SIGKILL)
        assert process.wait(60) == (-signal.SIGKILL if then == "wait" else 0)

    assert (orders(shop_dsn), payloads(shop_dsn)) == (placed, placed)


def test_of_many_threads_each_has_its_own_transaction(events, shop_dsn):
    def place(number):
        with psycopg.connect(shop_dsn) as connection:
            connection.execute("insert into orders values (%s)", [number])
            assert events.publish("order.placed", number, connection=connection)
            if number % 3 == 0:
                connection.rollback()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(place, range(60)))

    kept = [number for number in range(60) if number % 3]
    assert orders(shop_dsn) == kept
    assert sorted(payloads(shop_dsn)) == kept


def test_of_many_coroutines_each_has_its_own_transaction(events, shop_dsn):
    async def place(number):
        async with await psycopg.AsyncConnection.connect(shop_dsn) as connection:
            await connection.execute("insert into orders values (%s)", [number])
            assert await events.publish("order.placed", number, connection=connection)
            if number % 3 == 0:
                await connection.rollback()

    async def place_all():
        await asyncio.gather(*map(place, range(12)))

    asyncio.run(place_all())

    kept = [number for number in range(12) if number % 3]
    assert orders(shop_dsn) == kept
    assert sorted(payloads(shop_dsn)) == kept


def test_a_task_of_a_worker_that_fails_leaves_neither_its_rows_nor_its_event(shop, shop_dsn):
    worker = shop.start(app="ordering", environment={"ORDERING_DSN": shop_dsn}, namespace="shop")

    placed = shop.client.send_task("ordering.place", [1])
    failed = shop.client.send_task("ordering.place", [2], {"fail": True})
    event_id = placed.get(timeout=30)
    wait_until(failed.failed, "the second task has failed")

    [message] = messages(shop_dsn, "shop")
    assert orders(shop_dsn) == [1]
    assert (message["event_id"], message["payload"]) == (event_id, {"order": 1})
    assert (message["metadata"]["step_uuid"], message["metadata"]["step_name"]) == (placed.id, "place")
    assert names(messages(shop_dsn, "shop")) == ["order.placed"]
    assert worker.stop() == 0
