"""Every program of the page about transactions, run as it stands there, writes the order and its event."""

from __future__ import annotations

import os
import subprocess
import sys

import psycopg
import pytest
from celery import Celery
from pages import blocks
from psycopg.conninfo import conninfo_to_dict
from queues import messages

from celery_tasker_events import DomainEvents

BLOCKS = blocks("how-to/publish-in-your-transaction.md")

#: Each program, what it needs, and SQLAlchemy's name of its driver.
PROGRAMS = {
    "with_psycopg.py": ([], ""),
    "with_async_psycopg.py": ([], ""),
    "with_sqlalchemy.py": (["sqlalchemy"], "psycopg"),
    "with_async_sqlalchemy.py": (["sqlalchemy", "greenlet", "asyncpg"], "asyncpg"),
    "with_flask.py": (["flask_sqlalchemy"], "psycopg2"),
    "with_django.py": (["django"], ""),
    "in_a_task.py": ([], ""),
    "retry.py": ([], ""),
}


def run_program(name, dsn, folder, driver):
    for block in ("shop.py", name):
        (folder / block).write_text(BLOCKS[block])
    known = conninfo_to_dict(dsn)
    environment = {
        **os.environ,
        "DATABASE_URL": dsn,
        "SQLALCHEMY_URL": f"postgresql+{driver}://{known['user']}@/{known['dbname']}?host={known['host']}",
        "PGDATABASE": known["dbname"],
        "PGHOST": known["host"],
        "PGUSER": known["user"],
    }
    # An engine lives as long as its process: nobody closes its connections.
    command = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", name]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_every_block_of_the_page_is_run_by_a_test():
    assert set(BLOCKS) == {*PROGRAMS, "shop.py", "grants.sql"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_the_page_writes_the_order_and_its_event(name, shop_dsn, tmp_path):
    needs, driver = PROGRAMS[name]
    for module in needs:
        pytest.importorskip(module)

    done = run_program(name, shop_dsn, tmp_path, driver)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    event = messages(shop_dsn, "shop")[0]
    assert (event["event_name"], event["payload"]) == ("order.placed", {"order": 17})
    with psycopg.connect(shop_dsn) as connection:
        assert connection.execute("select id from orders").fetchall() == [(17,)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_whose_order_is_refused_publishes_no_event(name, shop_dsn, tmp_path):
    needs, driver = PROGRAMS[name]
    for module in needs:
        pytest.importorskip(module)
    with psycopg.connect(shop_dsn) as connection:
        # Refused at the commit, when the event has been written already.
        connection.execute("alter table orders add constraint sold_out unique (id) deferrable initially deferred")
        connection.execute("insert into orders values (17)")

    run_program(name, shop_dsn, tmp_path, driver)

    assert messages(shop_dsn, "shop") == []


def test_a_role_needs_no_more_rights_than_the_page_says(shop_dsn):
    app = Celery("web", broker="memory://", set_as_current=False)
    app.conf.update(tasker_events_namespace="shop")
    events = DomainEvents(app)
    with psycopg.connect(shop_dsn) as connection:
        # All of it is rolled back in the end: a role belongs to the whole server, not to this database.
        connection.execute("create role web")
        connection.execute(BLOCKS["grants.sql"])
        connection.execute("set local role web")

        assert events.publish("order.placed", 1, connection=connection)

        read = "select message->'payload' from pgmq.read('shop_domain_events', 1, 1)"
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(read)
        connection.execute("reset role")
        assert connection.execute(read).fetchall() == [(1,)]
        connection.rollback()
    events.close(5)
