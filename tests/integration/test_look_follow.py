"""``tail --follow`` as a shell runs it: it goes on through restarts of Postgres, and ends without a word when told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from program import PROGRAM
from sending import event, send
from worker_process import wait_until

from celery_tasker_events.durable.pool import connect


class Tail:
    """One ``tail --follow`` process, whose output is a file."""

    def __init__(self, folder: Path, dsn: str, *arguments: str) -> None:
        self.output, self.errors = folder / "output", folder / "errors"
        command = [*PROGRAM, "tail", "payments", "--follow", "--interval", "0.05", "--dsn", dsn, *arguments]
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(command, stdout=output, stderr=errors)

    @property
    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()

    def wait_for(self, word: str) -> None:
        wait_until(lambda: word in self.output.read_text() or self.process.poll() is not None, f"{word} is shown")
        assert word in self.output.read_text(), self.errors.read_text()

    def ended_by(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.process.wait(30), self.errors.read_text()


@pytest.fixture(autouse=True)
def heeded_ctrl_c():
    """What is started in the background of a script ignores SIGINT, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def piped(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output is read from pipes; gone at the end of the block, also of one that failed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def follow(tmp_path):
    with contextlib.ExitStack() as cleanup:

        def start(dsn: str, *arguments: str) -> Tail:
            tail = Tail(tmp_path, dsn, *arguments)
            cleanup.callback(tail.process.wait)
            cleanup.callback(tail.process.kill)
            return tail

        yield start


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_shows_what_comes_until_a_signal_ends_it_without_a_word(dsn, follow, number, code):
    send(dsn, event(payload="former"))
    tail = follow(dsn)
    tail.wait_for("former")

    for word in ("first", "second"):
        send(dsn, event(payload=word))
        tail.wait_for(word)

    assert tail.ended_by(number) == (code, "")
    assert [line.split()[-1] for line in tail.lines] == ['"former"', '"first"', '"second"']


def test_it_ends_when_nobody_reads_it_any_more(dsn):
    send(dsn, event(payload="former"))
    command = [*PROGRAM, "tail", "payments", "-f", "--interval", "0.05", "--dsn", dsn]
    with piped(command) as tail:
        assert b"former" in tail.stdout.readline()
        tail.stdout.close()
        send(dsn, event(payload="unread"))

        assert (tail.wait(30), tail.stderr.read()) == (141, b"")


def test_it_goes_on_after_postgres_was_restarted(own_postgres, follow):
    dsn = own_postgres.dsn
    send(dsn, event(payload="before"))
    tail = follow(dsn, "--format", "json")
    tail.wait_for("before")

    own_postgres.shut_down()
    wait_until(lambda: "trying again" in tail.errors.read_text(), "the outage is told")
    own_postgres.start_again()
    send(dsn, event(payload="after"))
    tail.wait_for("after")

    code, errors = tail.ended_by(signal.SIGINT)
    assert code == 130
    assert "Traceback" not in errors
    assert [json.loads(line)["payload"] for line in tail.lines] == ["before", "after"]


def test_a_queue_that_is_dropped_ends_it_with_a_message(dsn, follow):
    send(dsn, event(payload="former"))
    tail = follow(dsn)
    tail.wait_for("former")

    with connect(dsn) as connection:
        connection.execute("select pgmq.drop_queue('payments_domain_events')")

    assert tail.process.wait(30) == 1
    assert "queue 'payments_domain_events' was dropped" in tail.errors.read_text()


def test_through_celery_it_follows_the_apps_database(dsn, tmp_path):
    send(dsn, event(payload="former"))
    environment = {**os.environ, "SHOP_SETTINGS": json.dumps({"tasker_events_dsn": dsn})}
    command = [sys.executable, "-m", "celery", "-A", "shop", "domain-events", "tail", "-f", "--interval", "0.05"]
    apps = Path(__file__).parent / "apps"
    with piped(command, cwd=apps, env=environment) as tail:
        assert b"former" in tail.stdout.readline()
        send(dsn, event(payload="next"))
        assert b"next" in tail.stdout.readline()
        tail.send_signal(signal.SIGINT)

        assert (tail.wait(30), tail.stderr.read()) == (130, b"")
