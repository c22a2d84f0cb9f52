"""A worker that recycles child after child does not grow: no descriptor, thread or file is left of those that are gone."""

from __future__ import annotations

import os
from pathlib import Path

from queues import messages
from worker_process import wait_until

#: TEST_RECYCLED_CHILDREN=1000 for the long run.
CHILDREN = int(os.environ.get("TEST_RECYCLED_CHILDREN", "30"))


def count(folder):
    return len(list(folder.iterdir()))


def test_nothing_is_left_of_recycled_children(shop, dsn, spool_dir):
    worker = shop.start("--max-tasks-per-child", "1", "--concurrency", "1", dsn=dsn, spool_dir=spool_dir)
    process = Path("/proc") / str(worker.process.pid)

    def footprint():
        return {
            "children": len((process / "task" / process.name / "children").read_text().split()),
            "descriptors": count(process / "fd"),
            "threads": count(process / "task"),
            "spool": count(Path(spool_dir)),
            "sheets": sum("/celery-tasker-events-board-" in line for line in (process / "maps").read_text().splitlines()),
        }

    def run(tasks):
        for number in range(tasks):
            shop.send("pay", number).get(timeout=60)

    run(10)
    before = footprint()
    run(CHILDREN - 10)

    # While one child takes the place of another, there is a little more than usual.
    wait_until(lambda: all(value <= before[key] + 1 for key, value in footprint().items()), f"no more than {before}")
    assert worker.stop() == 0
    assert [e["event_name"] for e in messages(dsn, "payments")].count("payment.processed") == CHILDREN
