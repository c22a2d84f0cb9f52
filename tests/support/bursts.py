"""A worker that accepts bursts of events while Postgres takes none, for tests of what happens to them at an ending."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from celery.result import AsyncResult
from queues import messages
from worker_process import wait_until

from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import set_up

TABLE = "pgmq.q_bursts_domain_events"

#: More than one batch.
COUNT = 600


@contextlib.contextmanager
def nothing_is_committed(dsn: str) -> Iterator[None]:
    """Lets every commit wait until the end of the block."""
    with connect(dsn) as connection:
        set_up(connection, ["bursts_domain_events"])
    with psycopg.connect(dsn) as connection:
        connection.execute(f"lock table {TABLE} in exclusive mode")
        yield


def noted(dsn: str) -> list[tuple[str, int]]:
    """The label and number of every event that is in the queue."""
    return sorted(tuple(event["payload"]) for event in messages(dsn, "bursts") if event["event_name"] == "burst.noted")


def all_of(*labels: str) -> list[tuple[str, int]]:
    return sorted((label, number) for label in labels for number in range(COUNT))


class BurstingWorker:
    """One worker, and what it is sent.

    Args:
        spool: Whether events may wait on disk. Without it, what a process does not commit before its end is lost, so that a
            process which does not drain can't hide that.
    """

    def __init__(self, shop: Any, dsn: str, *options: str, spool: bool = False, **start: Any) -> None:
        self.shop, self.dsn = shop, dsn
        # Threads of one process accept faster than it can commit: nothing may be refused here for want of room.
        self.worker = shop.start(
            *options,
            app="ending_workers",
            dsn=dsn,
            command_buffer_size=10_000,
            shutdown_drain_timeout_ms=start.pop("drain_ms", 60_000),
            **({} if spool else {"spool_max_bytes": 0}),
            **start,
        )

    def burst(self, label: str, *, until: Path | None = None) -> AsyncResult[Any]:
        """Send a burst whose step ends when that file exists; return when its events are accepted."""
        arguments = [label, COUNT, None if until is None else str(until)]
        result = self.shop.client.send_task("ending.burst", arguments)
        wait_until(lambda: f"{label} accepted" in self.worker.log, f"{label} is accepted")
        return result

    def bursts_in_as_many_children(self, labels: Sequence[str], go: Path) -> set[int]:
        """Send bursts that wait for each other; return the processes that ran them."""
        results = [self.burst(label, until=go) for label in labels]
        go.touch()
        pids = {result.get(timeout=120) for result in results}
        assert len(pids) == len(labels)
        return pids

    def signal(self, *signals: signal.Signals) -> None:
        """Send these, each when the one before has arrived."""
        for number, how in enumerate(signals):
            told = self.worker.log.count("shutdown (MainProcess)") + 1
            self.worker.process.send_signal(how)
            if number < len(signals) - 1:
                wait_until(lambda told=told: self.worker.log.count("shutdown (MainProcess)") >= told, "the signal has arrived")

    def ends(self) -> int:
        """Wait for its end; return the exit code."""
        # On a busy machine of two cores, and with all of them ending at once, this takes its time.
        return self.worker.process.wait(180)
