"""TLS and password settings, from the DSN or from libpq's environment variables, on a server that insists on both."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from queues import messages, names
from services import path_of
from worker_process import wait_until

from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import set_up

PASSWORD = "s3cret of 'shopkeeper'"

ACCESS = """\
local all postgres trust
hostssl all shopkeeper 127.0.0.1/32 scram-sha-256
"""


class Guarded:
    """A server that lets ``shopkeeper`` in over TCP, with TLS and the password only. The wheel's is built without TLS."""

    def __init__(self, pg_ctl: str, folder: Path, certificate: Path, key: Path) -> None:
        self.certificate = certificate
        self._pg_ctl = pg_ctl
        self._data = folder / "data"
        # Postgres refuses to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.admin_dsn = make_conninfo(host=str(folder), port=self._port, user="postgres", dbname="postgres")
        self._run("initdb", "-o", "--auth=trust --username=postgres --no-sync --encoding=UTF8")
        for name, text in (("server.crt", certificate.read_text()), ("server.key", key.read_text()), ("pg_hba.conf", ACCESS)):
            self._keep(name, text)
        options = f"-c ssl=on -c fsync=off -h 127.0.0.1 -p {self._port} -k {folder}"
        self._run("-w", "-l", str(folder / "log"), "-o", options, "start")
        with connect(self.admin_dsn) as connection:
            set_up(connection, ())
            connection.execute("create role shopkeeper login")
            connection.execute("grant usage, create on schema pgmq to shopkeeper")
            connection.execute("grant select, insert on pgmq.meta to shopkeeper")
        self.set_password(PASSWORD)

    def dsn(self, **more: Any) -> str:
        place = {"host": "localhost", "hostaddr": "127.0.0.1", "port": self._port}
        return make_conninfo(dbname="postgres", user="shopkeeper", **{**place, **more})

    def set_password(self, password: str) -> None:
        with connect(self.admin_dsn) as connection:
            connection.execute(sql.SQL("alter role shopkeeper password {}").format(sql.Literal(password)))

    def stop(self) -> None:
        self._run("-m", "immediate", "stop")

    def _run(self, *arguments: str) -> None:
        # Nobody's own working directory would be this one, which it may not be able to enter.
        command = [self._pg_ctl, "-s", "-D", str(self._data), *arguments]
        subprocess.run(command, user=self._user, cwd="/", check=True, stdout=subprocess.DEVNULL, timeout=60)

    def _keep(self, name: str, text: str) -> None:
        path = self._data / name
        path.write_text(text)
        path.chmod(0o600)
        if self._user:
            shutil.chown(path, self._user)


@pytest.fixture(scope="module")
def new_certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Path, Path]]:
    """Makes a self-signed certificate for localhost, and its key."""
    openssl = path_of("openssl", "openssl")

    def make() -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("certificate")
        certificate, key = folder / "server.crt", folder / "server.key"
        arguments = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        files = ["-out", str(certificate), "-keyout", str(key)]
        subprocess.run([openssl, *arguments, *names, *files], check=True, capture_output=True, timeout=60)
        return certificate, key

    return make


@pytest.fixture(scope="module")
def guarded(new_certificate: Callable[[], tuple[Path, Path]]) -> Iterator[Guarded]:
    newest_first = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    pg_ctl = path_of("pg_ctl", "postgresql", newest_first)
    with tempfile.TemporaryDirectory(prefix="pg-tls-") as folder:
        guarded = Guarded(pg_ctl, Path(folder), *new_certificate())
        yield guarded
        guarded.stop()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_everything_in_the_dsn(guarded, publish_to):
    dsn = guarded.dsn(password=PASSWORD, sslmode="verify-full", sslrootcert=guarded.certificate)
    events = publish_to(dsn)

    events.publish("payment.processed", {}, namespace="by_dsn")
    assert events.drain(30)

    assert names(messages(guarded.admin_dsn, "by_dsn")) == ["payment.processed"]


@pytest.mark.parametrize("where", ["PGPASSWORD", "PGPASSFILE", "PGSERVICE"])
def test_what_the_dsn_leaves_out_comes_from_the_environment(guarded, publish_to, monkeypatch, tmp_path, where):
    dsn = guarded.dsn()
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(guarded.certificate))
    if where == "PGPASSWORD":
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
    elif where == "PGPASSFILE":
        (tmp_path / "passwords").write_text(f"localhost:*:*:shopkeeper:{PASSWORD}\n")
        (tmp_path / "passwords").chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(tmp_path / "passwords"))
    else:
        lines = [f"{key}={value}" for key, value in conninfo_to_dict(guarded.dsn(password=PASSWORD)).items()]
        (tmp_path / "services").write_text("\n".join(["[events]", *lines, ""]))
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        monkeypatch.setenv("PGSERVICE", "events")
        dsn = ""
    events = publish_to(dsn)

    events.publish("payment.processed", {}, namespace=f"by_{where.lower()}")
    assert events.drain(30)

    monkeypatch.undo()
    assert names(messages(guarded.admin_dsn, f"by_{where.lower()}")) == ["payment.processed"]


def test_a_wrong_password_is_told_without_it_and_events_wait_for_the_right_one(guarded, publish_to, caplog):
    caplog.set_level(logging.DEBUG)
    wrong = "wr0ng"
    events = publish_to(guarded.dsn(password=wrong, sslmode="require"))

    events.publish("payment.processed", {}, namespace="by_wrong_password")
    wait_until(lambda: told(caplog), "the trouble is told")
    guarded.set_password(wrong)
    try:
        assert events.drain(60)
    finally:
        guarded.set_password(PASSWORD)

    assert names(messages(guarded.admin_dsn, "by_wrong_password")) == ["payment.processed"]
    down, up = told(caplog)
    assert 'password authentication failed for user "shopkeeper"' in down
    assert up == "Durable domain events are published again"
    assert wrong not in caplog.text


def test_a_server_whose_certificate_is_not_trusted_gets_nothing(guarded, new_certificate, publish_to, caplog):
    other, _ = new_certificate()
    events = publish_to(guarded.dsn(password=PASSWORD, sslmode="verify-full", sslrootcert=other))

    events.publish("payment.processed", {}, namespace="by_nobody")
    wait_until(lambda: told(caplog), "the trouble is told")

    assert "certificate verify failed" in told(caplog)[0]
    assert messages(guarded.admin_dsn, "by_nobody") == []


def test_a_worker_starts_with_a_wrong_password_and_says_so_without_it(shop, guarded):
    worker = shop.start(dsn=guarded.dsn(password="wr0ng", sslmode="require"))
    shop.send("pay", 1).get(timeout=30)
    wait_until(lambda: "Durable domain events wait" in worker.log, "the trouble is told")

    assert "can't be used yet" in worker.log
    assert worker.log.count('password authentication failed for user "shopkeeper"') >= 2
    assert "wr0ng" not in worker.log


def test_defaults_give_way_to_the_dsn_and_to_the_environment(dsn, monkeypatch):
    def known(dsn: str) -> tuple[str, str]:
        with connect(dsn) as connection:
            (name,) = connection.execute("show application_name").fetchone()
            return name, connection.info.get_parameters()["connect_timeout"]

    assert known(dsn) == ("celery-tasker-events", "5")
    assert known(make_conninfo(dsn, application_name="mine", connect_timeout=7)) == ("mine", "7")
    monkeypatch.setenv("PGAPPNAME", "ours")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "9")
    assert known(dsn) == ("ours", "9")
    assert known(make_conninfo(dsn, connect_timeout=7)) == ("ours", "7")
