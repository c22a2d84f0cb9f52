"""A consumer works on a long queue without loading it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from consuming import event, send

SCRIPT = Path(__file__).parent / "apps" / "measured_consumer.py"

LENGTH = 100_000

# Copies of one event, three for each workflow, of about 1.5 kB each.
FILL = """
select count(*) from pgmq.send_batch(
    'payments_domain_events',
    array(select (select message from pgmq.q_payments_domain_events limit 1)
                 || jsonb_build_object('payload', repeat(md5(n::text), 32))
          from generate_series(1, %(length)s::integer) as numbers (n)),
    array(select jsonb_build_object('x-pgmq-group', 'w' || n / 3) from generate_series(1, %(length)s::integer) as numbers (n))
)
"""


def run(dsn: str, count: int, *, ordered: bool) -> tuple[int, int]:
    command = [sys.executable, str(SCRIPT), dsn, str(count), str(int(ordered))]
    handled, kilobytes = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout.split()
    return int(handled), int(kilobytes)


@pytest.fixture(scope="module")
def long_queue(new_database) -> str:
    dsn = new_database()
    send(dsn, [event(0)])
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(FILL, {"length": LENGTH})
    return dsn


@pytest.mark.parametrize("ordered", [True, False])
def test_it_needs_no_more_memory_than_for_a_short_one(dsn, long_queue, ordered):
    send(dsn, [event(0)])
    _, for_one = run(dsn, 1, ordered=ordered)

    handled, for_many = run(long_queue, 3000, ordered=ordered)

    assert handled == 3000
    # 1.5 kB each, and Python needs some times that: all of them at once would be 150 MB at least, a batch is 1.
    assert for_many - for_one < 40_000
