"""Other programs read, delete and archive our messages with the pgmq client or with SQL alone, in every envelope."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import orjson
import psycopg
import pytest
from pages import blocks
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from queues import messages

from celery_tasker_events import envelope

WIRE_FORMAT = Path(__file__).parents[2] / "docs" / "reference" / "wire-format.md"
BLOCKS = blocks("how-to/read-events.md")


def libpq_string(dsn: str) -> str:
    return make_conninfo("", **conninfo_to_dict(dsn))


def run_program(name: str, dsn: str, tmp_path: Path, *arguments: str, url: str | None = None) -> list[str]:
    """Run a Python program of the page as it stands there. ``url``: of the database, if not as a libpq string."""
    (tmp_path / name).write_text(BLOCKS[name])
    environment = {**os.environ, "DATABASE_URL": url or libpq_string(dsn)}
    done = subprocess.run(
        [sys.executable, name, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def run_sql(name: str, dsn: str) -> list[list[tuple[object, ...]]]:
    """Run the statements of a block; return the rows of each."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return [connection.execute(statement).fetchall() for statement in BLOCKS[name].split(";") if statement.strip()]


def archived(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select message->>'event_name' from pgmq.a_payments_domain_events order by msg_id")
        return [name for (name,) in rows]


def test_every_block_of_the_page_is_run_by_a_test():
    assert set(BLOCKS) == {
        "consume.py", "libpq_string.py", "with_pool.py", "give_back.py", "consume_in_order.py", "look.sql", "take.sql",
        "delete.sql", "read_any.py", "read_cloudevents.py", "look_at_cloudevents.sql"
    }  # fmt: skip


def test_the_pgmq_client_reads_and_deletes(paid, tmp_path):
    dsn = paid()

    assert run_program("consume.py", dsn, tmp_path) == [
        "payment.processed {'order': 1}",
        "payment.processed {'order': 2}",
        "payment.failed {'reason': 'no money', 'error_code': 'ValueError'}",
    ]
    assert messages(dsn, "payments") == []


def test_a_uri_becomes_the_string_that_the_client_understands(tmp_path, dsn):
    (line,) = run_program("libpq_string.py", dsn, tmp_path, dsn)

    assert conninfo_to_dict(line) == {key: value for key, value in conninfo_to_dict(dsn).items() if value}


def test_a_pool_takes_a_uri_with_options_as_it_is(paid, tmp_path):
    dsn = paid()

    assert dsn.startswith("postgresql://")
    assert "?host=/" in dsn
    assert run_program("with_pool.py", dsn, tmp_path, url=dsn) == ["3 messages"]


def test_what_is_given_back_is_read_again_and_the_readings_are_counted(paid, tmp_path):
    assert run_program("give_back.py", paid(), tmp_path) == ["True 2"]


def test_no_later_event_of_a_workflow_is_read_while_an_earlier_one_is_being_worked_on(paid):
    dsn = paid()
    with psycopg.connect(dsn, autocommit=True) as connection:
        first, header = connection.execute("select msg_id, headers from pgmq.q_payments_domain_events order by 1").fetchone()
        later = "select pgmq.send('payments_domain_events', '{\"event_name\": \"payment.refunded\"}', %s::jsonb)"
        connection.execute(later, [orjson.dumps(header).decode()])

        def read_one() -> str | None:
            row = connection.execute("select message->>'event_name' from pgmq.read_grouped('payments_domain_events', 30, 1)")
            return (row.fetchone() or (None,))[0]

        assert [read_one() for _ in range(4)] == ["payment.processed", "payment.processed", "payment.failed", None]
        connection.execute("select pgmq.delete('payments_domain_events', %s::bigint)", [first])
        assert read_one() == "payment.refunded"


def test_grouped_reads_give_each_workflow_in_order(paid, tmp_path):
    dsn = paid()
    with psycopg.connect(dsn) as connection:
        # A second event of the first workflow, committed last.
        second = ['{"event_name": "payment.refunded"}', '{"x-pgmq-group": "order-1"}']
        connection.execute("select pgmq.send('payments_domain_events', %s::jsonb, %s::jsonb)", second)

    lines = run_program("consume_in_order.py", dsn, tmp_path)

    assert [line for line in lines if line.startswith("order-1")] == ["order-1 payment.processed", "order-1 payment.refunded"]
    assert len(lines) == 4
    assert archived(dsn) == ["payment.processed", "payment.processed", "payment.failed", "payment.refunded"]


def test_plain_sql_looks_takes_deletes_and_archives(paid):
    dsn = paid()

    (seen,) = run_sql("look.sql", dsn)
    assert [(event, step) for event, step, _ in seen] == [
        ("payment.processed", "process_payment"),
        ("payment.processed", "process_payment"),
        ("payment.failed", "process_payment"),
    ]
    assert run_sql("take.sql", dsn) == [[(1, "payment.processed"), (2, "payment.processed"), (3, "payment.failed")]]
    assert run_sql("take.sql", dsn) == [[]]
    assert run_sql("delete.sql", dsn) == [[(True,)], [(True,)]]
    assert [event["event_name"] for event in messages(dsn, "payments")] == ["payment.failed"]
    assert archived(dsn) == ["payment.processed"]


@pytest.mark.parametrize("name", envelope.NAMES)
def test_a_program_with_this_package_reads_every_envelope_alike(paid, tmp_path, name):
    dsn = paid(name)

    assert run_program("read_any.py", dsn, tmp_path) == [
        "payment.processed process_payment {'order': 1}",
        "payment.processed process_payment {'order': 2}",
        "payment.failed process_payment {'reason': 'no money', 'error_code': 'ValueError'}",
    ]
    assert messages(dsn, "payments") == []


@pytest.mark.parametrize("name", ["native", "tasker"])
def test_one_sql_finds_the_events_of_a_workflow_in_native_and_tasker_messages(paid, name):
    with psycopg.connect(paid(name)) as connection:
        rows = connection.execute(
            "select message->>'event_name', message->'metadata'->>'step_name' from pgmq.q_payments_domain_events"
            " where message->'metadata'->>'correlation_id' = 'order-3'"
        ).fetchall()

    assert rows == [("payment.failed", "process_payment")]


@pytest.mark.parametrize("name", envelope.NAMES)
def test_what_is_in_the_queue_is_in_the_chosen_envelope_and_has_the_same_headers_in_all(paid, name):
    with psycopg.connect(paid(name)) as connection:
        rows = connection.execute("select message, headers from pgmq.q_payments_domain_events order by msg_id").fetchall()

    assert [envelope.recognise(message).name for message, _ in rows] == [name] * 3
    assert [headers["x-pgmq-group"] for _, headers in rows] == ["order-1", "order-2", "order-3"]
    keys = [headers["idempotency_key"] for _, headers in rows]
    assert keys == [envelope.read(message).metadata.idempotency_key for message, _ in rows]


def test_a_cloudevents_sdk_reads_what_is_in_the_queue(paid, tmp_path):
    dsn = paid("cloudevents")

    assert run_sql("look_at_cloudevents.sql", dsn) == [[("payment.failed", "process_payment", "false")]]
    assert run_program("read_cloudevents.py", dsn, tmp_path) == [
        "payment.processed /payments/process_payment order-1 {'order': 1}",
        "payment.processed /payments/process_payment order-2 {'order': 2}",
        "payment.failed /payments/process_payment order-3 {'reason': 'no money', 'error_code': 'ValueError'}",
    ]


def shape(value: object) -> object:
    """The keys of a message, down to the leaves."""
    return {key: shape(inner) for key, inner in value.items()} if isinstance(value, dict) else None


@pytest.mark.parametrize("name", envelope.NAMES)
def test_the_example_in_the_reference_has_the_shape_of_a_real_message(paid, name):
    blocks = re.findall(r"^```json\n(.*?)^```$", WIRE_FORMAT.read_text(), re.DOTALL | re.MULTILINE)
    (example,) = [block for block in map(orjson.loads, blocks) if envelope.recognise(block).name == name]
    real = messages(paid(name), "payments")[0]
    for message in (example, real):
        # What is in a payload is its publisher's affair.
        owner = message["payload"] if name == "tasker" else message
        owner["data" if name == "cloudevents" else "payload"] = None

    assert shape(real) == shape(example)
    assert envelope.read(example).event_name == "payment.processed"
