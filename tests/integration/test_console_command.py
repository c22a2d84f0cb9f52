"""The ``console`` command: what it says when it can't serve, how it ends, and what it never tells."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import click.testing
import psycopg
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from console_process import ConsoleProcess
from program import PROGRAM
from psycopg.conninfo import make_conninfo
from sending import event, send
from worker_process import wait_until

from celery_tasker_events import DomainEvents, publishes_events
from celery_tasker_events.cli.celery_command import domain_events
from celery_tasker_events.cli.main import main


def told(*arguments: str) -> tuple[int, str]:
    result = click.testing.CliRunner().invoke(main, ["console", *arguments])
    return result.exit_code, result.output


def test_a_port_that_is_taken_is_told_with_what_to_do(dsn):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = told("--dsn", dsn, "--port", str(port))

    assert code == 1
    assert output == (
        f"Error: no listening on 127.0.0.1 port {port}: Address already in use. Give another one with --port; --port 0 takes a "
        "free one.\n"
    )


def test_a_database_without_pgmq_is_told_before_anything_is_served(bare_dsn):
    code, output = told("--dsn", bare_dsn)

    assert code == 1
    assert "PGMQ is not installed" in output
    assert "domain-events setup" in output


def test_a_database_that_is_away_is_told_without_its_password():
    code, output = told("--dsn", "postgresql://shop:hunter2hunter2@127.0.0.1:1/none")

    assert code == 1
    assert "127.0.0.1" in output
    assert "hunter2" not in output


def test_an_app_whose_declarations_are_wrong_is_told_so(dsn):
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.tasker_events_dsn = dsn
    DomainEvents(app)

    @app.task(name="shop.pay", shared=False)
    @publishes_events("payment.done", namespace="payments", publisher="nobody.at:home")
    def pay():
        """Never called."""

    context = CLIContext(app=app, no_color=True, workdir=None)

    result = click.testing.CliRunner().invoke(domain_events, ["console"], obj=context)

    assert result.exit_code == 1
    assert "nobody.at" in result.output


def test_everybody_in_a_network_is_not_let_in_without_a_token(dsn):
    code, output = told("--dsn", dsn, "--host", "0.0.0.0", "--no-token")

    assert code == 2
    assert "--no-token is for 127.0.0.1 only" in output


def test_without_the_extra_the_command_says_how_to_get_it(tmp_path, dsn):
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('gone', name='uvicorn')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}

    done = subprocess.run([*PROGRAM, "console", "--dsn", dsn], env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert done.stderr == "Error: the console needs uvicorn, of an extra: pip install 'celery-tasker-events[console]'\n"


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_at_once_though_streams_are_open(dsn, tmp_path, how, code):
    send(dsn, event())
    console = ConsoleProcess(tmp_path, "--dsn", dsn).start()
    connection = console.connection()
    connection.request("GET", "/stream", headers={"Cookie": console.cookie})
    stream = connection.getresponse()
    try:
        assert stream.getheader("content-type", "").startswith("text/event-stream")
        wait_until(lambda: stream.readline() == b"event: events\n", "the stream has begun")

        assert console.stop(how) == code

        assert stream.read().endswith(b"\n\n")
        assert console.errors.read_text() == "Ctrl-C ends it.\n"
    finally:
        stream.close()
        connection.close()


def test_a_lost_database_is_told_on_the_page_and_outlived(dsn, tmp_path):
    """Sessions that an administrator ends, and refuses for a while."""
    send(dsn, event("payment.processed"))
    console = ConsoleProcess(tmp_path, "--dsn", make_conninfo(dsn, password="hunter2hunter2"), "--interval", "0.1").start()
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    try:
        with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as other:
            other.execute(f'alter database "{name}" allow_connections false')
            other.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
            answer = console.get("/")
            assert answer.status == 503
            assert "not currently accepting connections" in answer.text
            wait_until(lambda: "What is shown is of before" in console.get("/queues").text, "the charts' page says it too")
            other.execute(f'alter database "{name}" allow_connections true')
        assert "payment.processed" in console.get("/").text
        wait_until(lambda: "What is shown is of before" not in console.get("/queues").text, "the charts go on")
        footer = console.get("/").text.partition("<footer")[2]
        assert "password=***" in footer
    finally:
        assert console.stop() == 143
    for text in (console.output.read_text(), console.errors.read_text(), footer):
        assert "hunter2" not in text
    assert "token" not in console.errors.read_text()


def test_another_host_is_told_to_need_care_and_is_known_by_address_and_allowed_names(dsn, tmp_path):
    console = ConsoleProcess(tmp_path, "--dsn", dsn, "--host", "0.0.0.0", "--allow-host", "console.example").start()
    try:
        assert console.errors.read_text().startswith("Care: 0.0.0.0 is reached from other machines")
        assert [console.get("/", Host=host).status for host in ("10.1.2.3:80", "console.example", "evil.example")] == [
            200,
            200,
            400,
        ]
    finally:
        console.stop()


def test_a_console_without_a_token_lets_in_who_is_on_this_machine(dsn, tmp_path):
    console = ConsoleProcess(tmp_path, "--dsn", dsn, "--no-token").start()
    try:
        assert "token" not in console.url
        assert console.get("/", Cookie="").status == 200
        assert console.get("/", Cookie="", Host="evil.example").status == 400
    finally:
        console.stop()
