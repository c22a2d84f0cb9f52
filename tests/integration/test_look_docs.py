"""The page about looking at events keeps its word: its commands are run as they stand there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import psycopg
import pytest
from pages import DOCS, blocks
from sending import event, send, send_raw, untouched
from worker_process import wait_until

from celery_tasker_events.consumer import looking_sql
from celery_tasker_events.event import StepError

PAGE = "how-to/look-at-events.md"
BLOCKS = blocks(PAGE)
DECLINED = StepError("CardDeclined", "no funds", retryable=False)
FAILED = event("payment.failed", {"amount": 5}, status="failed", error=DECLINED, after_ms=300, took_ms=200)

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="needs the program jq")


@pytest.fixture
def environment(dsn, tmp_path):
    """A shell's environment in which the program is installed, and a database with a workflow in it."""
    send(dsn, event("stock.reserved", namespace="stock", step_name="reserve", after_ms=100, took_ms=100), FAILED)
    send_raw(dsn, '{"failed_stage": "schema", "event_name": "payment.invalid"}', "payments_domain_events_dlq")
    program = tmp_path / "celery-tasker-events"
    program.write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        from celery_tasker_events.cli.main import main
        main(prog_name="celery-tasker-events")
        """)
    )
    program.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "DATABASE_URL": dsn,
        "TASKER_EVENTS_DSN": dsn,
        "EVENT_ID": FAILED.event_id,
        "CORRELATION_ID": "order-1",
    }


def run(name: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", BLOCKS[name]], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_block_of_the_page_is_run_by_a_test():
    # The index is made in the test of a long queue.
    assert set(BLOCKS) == {"queues.sh", "tail.sh", "follow.sh", "show.sh", "trace.sh", "index.sql"}


def test_the_queues_have_the_headings_of_the_page(environment):
    heading, payments, stock = run("queues.sh", environment).splitlines()

    assert heading.split() == ["QUEUE", "LENGTH", "INVISIBLE", "OLDEST", "NEWEST", "TOTAL", "ARCHIVED", "DEAD"]
    assert " ".join(heading.split()) in [" ".join(line.split()) for line in (DOCS / PAGE).read_text().splitlines()]
    assert (payments.split()[0], payments.split()[-1]) == ("payments_domain_events", "1")
    assert stock.split()[0] == "stock_domain_events"


def test_the_last_events_are_shown_without_taking_them(environment):
    before = untouched(environment["DATABASE_URL"])

    lines = run("tail.sh", environment).splitlines()

    assert [line.split()[1] for line in lines] == ["payment.failed", "payment.failed", "payment.invalid"]
    assert untouched(environment["DATABASE_URL"]) == before


@needs_jq
def test_what_follows_can_be_piped_into_a_program(environment, tmp_path):
    with (tmp_path / "output").open("wb") as output:
        shell = subprocess.Popen(["bash", "-c", BLOCKS["follow.sh"]], env=environment, stdout=output, start_new_session=True)
    try:
        wait_until(lambda: (tmp_path / "output").read_text() == "payment.failed\torder-1\tno funds\n", "the event is shown")
    finally:
        os.killpg(shell.pid, 9)
        shell.wait()


@needs_jq
def test_one_event_is_shown_with_its_message(environment):
    shown = run("show.sh", environment)

    assert "event           payment.failed 1.0\n" in shown
    assert f'"event_id": "{FAILED.event_id}"' in shown


def test_one_workflow_is_told_twice(environment):
    lines = run("trace.sh", environment).splitlines()

    assert lines[0] == "2 events of 2 steps in 2 namespaces, 0.300 s from 2026-01-01T10:00:00.000Z"
    assert lines[:4] == lines[4:]
    headings = [" ".join(line.split()) for line in (DOCS / PAGE).read_text().splitlines()]
    assert " ".join(lines[1].split()) in headings


def test_the_expressions_for_an_index_are_those_that_are_searched_for(environment):
    page = (DOCS / PAGE).read_text()

    assert f"(({looking_sql.CORRELATION_ID.as_string(None)}))" in page
    assert f"({looking_sql.EVENT_ID.as_string(None)})" in page
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as connection:
        for statement in filter(str.strip, BLOCKS["index.sql"].split(";")):
            connection.execute(statement)
