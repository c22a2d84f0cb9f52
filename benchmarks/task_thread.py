"""What the plugin costs the task's thread: Celery's own tracer on a no-op task, with and without events."""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from celery import Celery
from celery.app.trace import build_tracer

from celery_tasker_events import DomainEvents, publishes_events
from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres

#: Less than the channel holds, so that nothing is dropped; the channel is drained between two measurements.
TASKS = 500


class Contestant:
    """One way to run a no-op task, in a process of its own: signal receivers are shared by all apps of a process."""

    def __init__(self, name: str, dsn: str | None, *, declared: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.taken: list[float] = []
        self._pipe, remote = context.Pipe()
        self._process = context.Process(target=_serve, args=(remote, dsn, declared), daemon=True)
        self._process.start()

    def measure(self) -> None:
        self._pipe.send(True)
        self.taken.append(self._pipe.recv() * 1e6)

    def stop(self) -> None:
        self._pipe.send(False)
        self._process.join()


def _serve(pipe: Connection, dsn: str | None, declared: bool) -> None:
    app = Celery("bench", broker="memory://", backend="disabled://")
    events = DomainEvents(app) if dsn else None
    app.conf.tasker_events_dsn = dsn

    def no_op() -> dict[str, object]:
        return {"transaction_id": "TXN-1", "amount": 99.99}

    if declared:
        publishes_events("payment.processed", namespace="payments")(no_op)
    task = app.task(no_op, name="bench.no_op", ignore_result=True)
    app.finalize()
    trace = build_tracer(task.name, app.tasks[task.name], app=app)
    request = {"id": "00000000-0000-4000-8000-000000000000", "delivery_info": {}, "hostname": "bench@host"}
    while pipe.recv():
        started = time.thread_time()
        for _ in range(TASKS):
            trace(request["id"], (), {}, request)
        pipe.send((time.thread_time() - started) / TASKS)
        if events is not None:
            assert events.drain(60)
    if events is not None:
        events.close()


def main() -> None:
    """Print the median and the spread of every contestant, in microseconds per task, and what each adds to the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="measurements of each contestant, interleaved")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder) / "pg") as server:
        server.set_up(["payments_domain_events"])
        contestants = (
            Contestant("no plugin", None, declared=False),
            Contestant("plugin, no event declared", server.dsn, declared=False),
            Contestant("plugin, one durable event", server.dsn, declared=True),
        )
        for _ in range(rounds):
            for contestant in contestants:
                contestant.measure()
        for contestant in contestants:
            contestant.stop()
    print(f"CPython {platform.python_version()} on {platform.machine()}, {rounds} rounds of {TASKS} tasks")
    baseline = statistics.median(contestants[0].taken)
    print(f"{'µs of CPU on the task thread, per task':40} {'median':>8} {'min':>8} {'max':>8} {'added':>8}")
    for contestant in contestants:
        taken, median = contestant.taken, statistics.median(contestant.taken)
        print(f"{contestant.name:40} {median:8.1f} {min(taken):8.1f} {max(taken):8.1f} {median - baseline:8.1f}")


if __name__ == "__main__":
    main()
