"""The programs of the page about consuming do what it says, on what the plugin has published."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from pages import DOCS, blocks
from queues import messages
from worker_process import wait_until

BLOCKS = blocks("how-to/consume-events.md")


@pytest.fixture
def paid_dsn(paid):
    return paid()


@pytest.fixture
def run(paid_dsn, tmp_path):
    """Writes the blocks of the page into a folder, and runs one there until it has printed so many lines."""
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "DATABASE_URL": paid_dsn, "PYTHONUNBUFFERED": "1", "PATH": path}

    def run(*command: str, lines: int, until: Callable[[], bool] = lambda: True) -> tuple[list[str], str, int]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)
        printed = [process.stdout.readline().rstrip("\n") for _ in range(lines)]
        wait_until(until, "it has done its work")
        if lines:
            process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        return printed + output.splitlines(), errors, process.returncode

    return run


def test_every_block_of_the_page_is_run_by_a_test():
    assert set(BLOCKS) == {"consumer.py", "loop.py", "failing.py", "once.py", "notify.sql", "answer.sh", "exec.sh"}


def test_handlers(paid_dsn, run):
    printed, errors, code = run(sys.executable, "consumer.py", lines=3)

    assert code == 0, errors
    assert sorted(printed) == ["alert payment.failed no money", "booked 1", "booked 2"]
    assert messages(paid_dsn, "payments") == []


def test_a_loop(paid_dsn, run):
    printed, errors, code = run(sys.executable, "loop.py", lines=3, until=lambda: messages(paid_dsn, "payments") == [])

    assert printed == [
        "payment.processed {'order': 1}",
        "payment.processed {'order': 2}",
        "payment.failed {'reason': 'no money', 'error_code': 'ValueError'}",
    ]
    assert code == -signal.SIGTERM, errors  # nothing stops a plain loop


def test_failing_handlers(paid_dsn, run):
    printed, errors, code = run(sys.executable, "failing.py", lines=2)

    assert code == 0, errors
    assert sorted(printed) == ["booked 1 at attempt 2", "booked 2 at attempt 2"]


def test_a_store(paid_dsn, run):
    printed, errors, code = run(sys.executable, "once.py", lines=3)

    assert code == 0, errors
    assert printed == ["payment.processed", "payment.processed", "payment.failed"]
    with psycopg.connect(paid_dsn) as connection:
        assert connection.execute("select distinct handler, done from celery_tasker_events_seen").fetchall() == [
            ("ledger:book", True)
        ]


def test_notifications(paid_dsn):
    with psycopg.connect(paid_dsn) as connection:
        connection.execute(BLOCKS["notify.sql"])
        assert connection.execute("select count(*) from pgmq.list_notify_insert_throttles()").fetchone() == (1,)


def test_a_program_in_shell(paid_dsn, run):
    printed, errors, code = run("sh", "exec.sh", lines=0)

    assert code == 0, errors
    assert printed == []
    assert errors.count("booked") == 2
    (letter,) = messages(paid_dsn, "payments", dead_letters=True)
    assert letter["error"]["error"] == "nothing to book"


def test_the_pipe_of_the_page_is_a_command_that_there_is(run, paid_dsn):
    (line,) = [
        line for line in (DOCS / "how-to" / "consume-events.md").read_text().splitlines() if line.endswith("| jq .payload")
    ]
    command = line.removesuffix(" | jq .payload") + " --until-empty"

    printed, errors, code = run("sh", "-c", command, lines=0)

    assert code == 0, errors
    assert len(printed) == 3
