"""PGMQ as an extension or as SQL, of an older version, too old, or taken away while events are published."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click.testing
import psycopg
import pytest
from pgmq.install import get_embedded_install_sql, get_embedded_sql_version
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from queues import messages, names
from sending import event, send
from worker_process import wait_until

from celery_tasker_events.cli.main import main
from celery_tasker_events.durable.queues import set_up

CONTROL = "comment = 'PGMQ'\ndefault_version = '{version}'\nschema = 'pgmq'\nrelocatable = false\n"

WITHOUT_HEADERS = """
drop function pgmq.send_batch(text, jsonb[]);
drop function pgmq.send_batch(text, jsonb[], jsonb[]);
drop function pgmq.send_batch(text, jsonb[], timestamptz);
drop function pgmq.send_batch(text, jsonb[], jsonb[], integer);
"""

# The signature that all versions before 1.5 have.
AS_IN_1_4 = f"""{WITHOUT_HEADERS}
drop function pgmq.send_batch(text, jsonb[], integer);
create function pgmq.send_batch(queue_name text, msgs jsonb[], delay integer default 0) returns setof bigint language sql
as 'select pgmq._send_batch(queue_name, msgs, null, clock_timestamp() + make_interval(secs => delay))';
"""


def execute(dsn: str, statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statements.encode())


def headers(dsn: str) -> list[object]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("select headers from pgmq.q_payments_domain_events")]


@pytest.fixture
def offer_extension() -> Iterator[Callable[[str, str, str], None]]:
    """Makes an extension ``pgmq`` of that version available in a database: PGMQ's SQL and what is done to it."""
    folders = []

    def offer(dsn: str, version: str, change: str = "") -> None:
        # Not under pytest's own folder, which the user that Postgres runs as may not be able to read.
        folder = Path(tempfile.mkdtemp(prefix="extensions-"))
        folders.append(folder)
        folder.chmod(0o755)
        (folder / "extension").mkdir()
        (folder / "extension" / "pgmq.control").write_text(CONTROL.format(version=version))
        (folder / "extension" / f"pgmq--{version}.sql").write_text(get_embedded_install_sql() + change)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("alter database {} set extension_control_path = {}").format(
                    sql.Identifier(str(conninfo_to_dict(dsn)["dbname"])), sql.Literal(f"$system:{folder}")
                )
            )

    yield offer
    for folder in folders:
        shutil.rmtree(folder)


def test_it_is_installed_as_an_extension_where_the_server_has_it(bare_dsn, offer_extension, publish_to):
    offer_extension(bare_dsn, get_embedded_sql_version())
    with psycopg.connect(bare_dsn, autocommit=True) as connection:
        report = set_up(connection, ["payments_domain_events"])
        version = connection.execute("select extversion from pg_extension where extname = 'pgmq'").fetchone()
    events = publish_to(bare_dsn)

    events.publish("payment.processed", {}, namespace="payments")
    events.publish("payment.processed", {}, namespace="a_queue_to_be_made")
    assert events.drain(30)

    assert (report.installed, version) == ("extension", (get_embedded_sql_version(),))
    assert len(messages(bare_dsn, "payments")) == len(messages(bare_dsn, "a_queue_to_be_made")) == 1
    assert None not in headers(bare_dsn)


@pytest.mark.parametrize("is_extension", [True, False])
def test_a_version_before_1_5_gets_the_events_without_headers(shop, bare_dsn, offer_extension, is_extension):
    if is_extension:
        offer_extension(bare_dsn, "1.4.0", AS_IN_1_4)
    with psycopg.connect(bare_dsn, autocommit=True) as connection:
        set_up(connection, ())
    if not is_extension:
        execute(bare_dsn, AS_IN_1_4)

    worker = shop.start(dsn=bare_dsn)
    shop.send("pay", 1).get(timeout=30)
    wait_until(lambda: "payment.processed" in names(messages(bare_dsn, "payments")), "the event arrives")

    assert set(headers(bare_dsn)) == {None}
    assert "PGMQ is older than 1.5 and knows no headers" in worker.log
    assert "events wait" not in worker.log


@pytest.mark.parametrize(
    ("version", "found", "remedy"),
    [
        ("1.3.3", "PGMQ 1.3.3 in database", "alter extension pgmq update"),
        (None, "PGMQ (installed as SQL, its version is unknown) in database", "pgmq--<old>--<new>.sql"),
    ],
)
def test_one_that_is_too_old_is_refused_with_its_version_and_what_to_do(shop, bare_dsn, offer_extension, version, found, remedy):
    if version:
        offer_extension(bare_dsn, version, AS_IN_1_4)
        execute(bare_dsn, "create extension pgmq")
    else:
        execute(bare_dsn, f"{get_embedded_install_sql()}{WITHOUT_HEADERS}; drop function pgmq.send_batch(text, jsonb[], integer)")

    worker = shop.start(wait_ready=False, dsn=bare_dsn)

    assert worker.process.wait(30) == 1
    assert found in worker.log
    assert "is too old: 1.4 or newer is needed" in worker.log
    assert remedy in worker.log
    assert "Traceback" not in worker.log


def test_events_wait_while_it_is_taken_away_and_installed_anew(dsn, publish_to, caplog):
    events = publish_to(dsn)
    events.publish("payment.first", {}, namespace="payments")
    assert events.drain(30)

    execute(dsn, "drop schema pgmq cascade")
    events.publish("payment.second", {}, namespace="payments")
    wait_until(lambda: "PGMQ is not installed in database" in caplog.text, "the trouble is told")
    with psycopg.connect(dsn, autocommit=True) as connection:
        set_up(connection, ())
    assert events.drain(30)

    assert names(messages(dsn, "payments")) == ["payment.second"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["consume", "payments", "--once", "--unordered"],
        ["forward", "payments", "--to", "stdout:", "--once"],
        ["tail", "payments"],
        ["show", "0199c3e0-d123-7000-8000-000000000001"],
        ["trace", "order-1"],
        ["replay", "--all", "--dry-run"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_without_headers_whoever_reads_is_told_what_to_do(dsn, arguments):
    send(dsn, event(), event(), archive=True)
    execute(dsn, AS_IN_1_4)
    execute(dsn, "alter table pgmq.q_payments_domain_events drop headers; alter table pgmq.a_payments_domain_events drop headers")

    result = click.testing.CliRunner().invoke(main, [*arguments, "--dsn", dsn])

    assert result.exit_code == 1
    assert "PGMQ is older than 1.5 in this database" in result.output
    assert "alter extension pgmq update" in result.output
