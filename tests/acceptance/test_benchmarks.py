"""The benchmarks run; their figures are printed at the end of the tests, and never judged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_an_event_costs_the_tasks_thread_is_told(record_property: Callable[[str, object], None]) -> None:
    command = [sys.executable, "-m", "benchmarks.task_thread", "--rounds", "3"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    head, _, *rows = done.stdout.splitlines()
    assert "3 rounds of 500 tasks" in head
    assert [row.rsplit(maxsplit=4)[0] for row in rows] == ["no plugin", "plugin, no event declared", "plugin, one durable event"]
    assert all(float(row.split()[-4]) > 0 for row in rows)
    record_property("figures", done.stdout)
