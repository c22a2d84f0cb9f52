"""``top`` on a real database: as JSON, as a table, on a terminal of any width, and its end."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import click.testing
import psycopg
import pytest
from letters import park
from program import PROGRAM
from sending import event, send
from worker_process import wait_until

from celery_tasker_events.cli.main import main


def top(dsn: str, *arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["top", "--dsn", dsn, "--interval", "0.05", *arguments])


@pytest.fixture
def filled(dsn) -> str:
    send(dsn, event("payment.processed"), event("payment.failed"), event("stock.reserved", namespace="stock"))
    park(dsn, event())
    return dsn


def test_a_look_as_json_has_what_queues_has_and_more(filled):
    result = top(filled, "payments", "--once", "--format", "json")

    assert result.exit_code == 0, result.output
    [line] = result.stdout.splitlines()
    [queue] = json.loads(line)["queues"]
    assert (queue["namespace"], queue["length"], queue["total"], queue["dead_letters"]) == ("payments", 2, 2, 1)
    assert queue["publish_rate"] == 0.0
    assert queue["last_event"] == "payment.failed"
    assert queue["oldest_age_seconds"] >= 0


def test_a_look_as_a_table_has_a_line_for_each_queue(filled):
    heading, payments, stock = top(filled, "--once").stdout.splitlines()

    assert heading.split() == ["QUEUE", "LENGTH", "RATE", "OLDEST", "DEAD", "LAST", "EVENT", "AGO"]
    assert payments.split()[:3] == ["payments", "2", "0/s"]
    assert "payment.failed" in payments
    assert stock.split()[:3] == ["stock", "1", "0/s"]


def test_no_queues_are_said_to_be_none(dsn):
    assert top(dsn, "--once").stdout == "No queues of domain events.\n"


def test_a_queue_that_is_not_there_is_told(filled):
    result = top(filled, "paymnts", "--once")

    assert result.exit_code == 1
    assert "Did you mean 'payments'?" in result.output


class Terminal:
    """``top`` on a terminal of so many columns."""

    def __init__(self, dsn: str, columns: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.set_blocking(self._ours, False)
        environment = {**os.environ, "TERM": "xterm"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        command = [*PROGRAM, "top", "--dsn", dsn, "--interval", "0.05"]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        signal.signal(signal.SIGINT, before)
        os.close(theirs)
        self.raw = ""

    @property
    def text(self) -> str:
        """All that was written so far, without what moves the cursor or sets a colour."""
        try:
            while data := os.read(self._ours, 65536):
                self.raw += data.decode()
        except OSError:  # nothing more for now, or the other end is closed
            pass
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.raw)

    def wait_for(self, pattern: str) -> None:
        wait_until(lambda: re.search(pattern, self.text) or self.process.poll() is not None, f"{pattern} is shown")
        assert re.search(pattern, self.text), self.text

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.mark.parametrize(("columns", "headings"), [(120, 7), (62, 5), (40, 3)])
def test_a_narrow_terminal_has_fewer_columns_and_no_line_is_cut(filled, columns, headings):
    terminal = Terminal(filled, columns)
    try:
        terminal.wait_for("Ctrl-C ends it(?s:.*)Ctrl-C ends it")
        send(filled, event("payment.refunded"))
        terminal.wait_for("payments +3 ")

        terminal.process.send_signal(signal.SIGINT)

        assert terminal.process.wait(30) == 130
        lines = [line.strip("\r") for line in terminal.text.splitlines()]
        assert len(lines[0].replace("LAST EVENT", "LAST").split()) == headings
        assert all(len(line) <= columns for line in lines)
        assert "Traceback" not in terminal.text
        # The cursor is there again.
        assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
    finally:
        terminal.close()


def test_it_goes_on_through_an_outage(dsn, tmp_path):
    """Sessions that an administrator ends, as a restart does."""
    send(dsn, event())
    command = [*PROGRAM, "top", "--dsn", dsn, "--interval", "0.05", "--format", "json"]
    output, errors = tmp_path / "output", tmp_path / "errors"
    with output.open("wb") as out, errors.open("wb") as err, subprocess.Popen(command, stdout=out, stderr=err) as process:
        try:
            wait_until(lambda: output.read_text().count("\n") > 1, "two looks are told")
            with psycopg.connect(dsn, autocommit=True) as connection:
                ours = "datname = current_database() and pid <> pg_backend_pid()"
                connection.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {ours}")
            wait_until(lambda: "trying again" in errors.read_text(), "the outage is told")
            before = output.read_text().count("\n")
            wait_until(lambda: output.read_text().count("\n") > before + 1, "it goes on")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 143
        finally:
            process.kill()
    assert errors.read_text().count("trying again") == 1
