"""A real PgBouncer in transaction mode between the workers and Postgres: each transaction may get another server process."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from queues import messages, names
from services import path_of
from wheel import user
from worker_process import wait_until

from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import set_up
from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres

CONFIGURATION = """\
[databases]
* = host={host} user=postgres
[pgbouncer]
pool_mode = transaction
auth_type = any
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
default_pool_size = 3
"""


class PgBouncer:
    """One ``pgbouncer`` process before a server."""

    def __init__(self, program: str, server: EmbeddedPostgres, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        # It refuses to run as root, as Postgres does.
        self._user = user(server)
        self._arguments = [program, str(folder / "pgbouncer.ini")]
        host = conninfo_to_dict(server.dsn)["host"]
        (folder / "pgbouncer.ini").write_text(CONFIGURATION.format(host=host, port=self._port))
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._arguments, user=self._user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        wait_until(self._answers, "PgBouncer answers")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def dsn(self, database: str) -> str:
        """The way to a database through it."""
        return make_conninfo(host="127.0.0.1", port=self._port, user="postgres", dbname=conninfo_to_dict(database)["dbname"])

    def _answers(self) -> bool:
        assert self._process.poll() is None, "PgBouncer ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


@pytest.fixture(scope="module")
def pgbouncer(postgres: EmbeddedPostgres) -> Iterator[PgBouncer]:
    program = path_of("pgbouncer", "pgbouncer")
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder:
        Path(folder).chmod(0o755)
        bouncer = PgBouncer(program, postgres, Path(folder))
        yield bouncer
        bouncer.stop()


def test_setup_installs_and_creates_through_it(pgbouncer, bare_dsn):
    with connect(pgbouncer.dsn(bare_dsn)) as connection:
        first = set_up(connection, ["payments_domain_events"])
        second = set_up(connection, ["payments_domain_events"])

    assert first.created == second.existing == ("payments_domain_events",)
    with psycopg.connect(bare_dsn) as direct:
        locks = direct.execute(
            "select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database "
            "where locktype = 'advisory' and datname = current_database()"
        ).fetchone()
    assert locks == (0,)


def test_events_of_many_processes_arrive_over_few_connections(shop, pgbouncer, dsn):
    # Queues are made by whichever process comes first, and what others leave in a session must not matter.
    workers = [shop.start("--hostname", f"w{number}@%h", dsn=pgbouncer.dsn(dsn)) for number in range(2)]
    for result in [shop.send("pay", order) for order in range(100)]:
        result.get(timeout=60)
    wait_until(lambda: len(messages(dsn, "payments")) >= 300 and len(messages(dsn, "audit")) >= 100, "all events arrive")
    with psycopg.connect(dsn) as direct:
        (backends,) = direct.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        ).fetchone()

    counts = Counter(names(messages(dsn, "payments")))
    assert counts == dict.fromkeys(("payment.processed", "payment.enriched", "payment.flagged"), 100)
    assert Counter(names(messages(dsn, "audit"))) == {"payment.tried": 100}
    assert backends <= 3
    assert all("events wait" not in worker.log for worker in workers)


def test_a_pgbouncer_that_goes_and_comes_back_loses_nothing(pgbouncer, dsn, publish_to, caplog):
    events = publish_to(pgbouncer.dsn(dsn))
    assert events.publish("payment.processed", {"number": 0}, namespace="payments")
    assert events.drain(30)

    pgbouncer.stop()
    for number in range(1, 50):
        assert events.publish("payment.processed", {"number": number}, namespace="payments")
    wait_until(lambda: "Durable domain events wait" in caplog.text, "the trouble is told")
    pgbouncer.start()
    assert events.drain(60)

    assert [message["payload"]["number"] for message in messages(dsn, "payments")] == list(range(50))
