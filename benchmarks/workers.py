"""Real prefork workers, each with its own queue and database, that run tasks until they are told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from celery import Celery

from benchmarks.bench import Bench
from benchmarks.tasks import QUEUE
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.testing.folder_broker import folder_broker_settings

__all__ = ["CONCURRENCY", "Worker"]

CONCURRENCY = 2

#: Seconds that a worker may take to start, or to run one round of tasks.
PATIENCE = 300.0

#: A worker that used no more CPU than this, in seconds, for as long as that has done all it had to.
_STILL, _STILL_FOR, _QUICK_STILL_FOR = 0.02, 1.0, 0.3


class Worker:
    """A context manager: the worker runs inside the ``with`` block; more than one may.

    Args:
        contestant: ``"plugin"``, ``"lingering"``, ``"handler"`` or ``"none"``.
    """

    def __init__(self, bench: Bench, contestant: str) -> None:
        self.name = contestant
        self.dsn = bench.new_database(QUEUE)
        self._queue = f"bench_{uuid.uuid4()}"
        self._settings = {
            **_broker(bench),
            "task_default_queue": self._queue,
            "task_ignore_result": True,
            "tasker_events_dsn": self.dsn,
            "tasker_events_spool_dir": str(bench.folder),
        }
        self._still_for = _QUICK_STILL_FOR if bench.quick else _STILL_FOR
        self._ready = bench.folder / f"{self._queue}.ready"
        self._log = bench.folder / f"{self._queue}.log"
        self._sender = Celery("bench-sender", set_as_current=False)
        self._sender.conf.update(self._settings)

    def __enter__(self) -> Worker:
        environment = {
            **os.environ,
            "BENCH_CONTESTANT": self.name,
            "BENCH_SETTINGS": json.dumps(self._settings),
            "BENCH_READY": str(self._ready),
            "BENCH_CONCURRENCY": str(CONCURRENCY),
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker_app"],
                cwd=Path(__file__).parents[1],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.begin_stop()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def begin_stop(self) -> None:
        """Tell it to stop; it is waited for at the end of the ``with`` block."""
        self._process.send_signal(signal.SIGTERM)

    @property
    def main(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    @property
    def children(self) -> list[psutil.Process]:
        return list(self.main.children())

    def wait_ready(self) -> None:
        """Wait until it takes tasks. It has run none then."""
        self._wait(lambda: self._ready.exists() and len(self.children) == CONCURRENCY, "is not ready")

    def run(self, times: int) -> float:
        """Send that many tasks and wait until the worker has run them; return the CPU, in seconds, that it took.

        All of the worker's processes are counted, and what they do after the last task.
        """
        before = self.cpu()
        task = self._sender.signature("bench.no_op")
        with self._sender.producer_or_acquire() as producer:
            for _ in range(times):
                task.apply_async(producer=producer)
        self._wait(lambda: not self._waiting() and self._is_still(), f"has not run {times} tasks")
        return self.cpu() - before

    def cpu(self) -> float:
        """Seconds of CPU of the worker's processes until now."""
        return sum(sum(process.cpu_times()[:2]) for process in (self.main, *self.children))

    def published(self) -> int:
        """How many events there are in its database."""
        with connect(self.dsn) as connection:
            return int(connection.execute(f"select count(*) from pgmq.q_{QUEUE}").fetchone()[0])  # type: ignore[index]  # one row

    def connections(self) -> int:
        """How many connections its processes have to its database."""
        with connect(self.dsn) as connection:
            query = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            return int(connection.execute(query).fetchone()[0])  # type: ignore[index]  # one row

    def _waiting(self) -> int:
        with self._sender.connection_for_read() as connection:
            return int(connection.default_channel.queue_declare(self._queue, durable=True).message_count)

    def _is_still(self) -> bool:
        before = self.cpu()
        time.sleep(self._still_for)
        return self.cpu() - before <= _STILL

    def _wait(self, condition: Callable[[], bool], trouble: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"worker {self.name!r} {'has ended' if ended else trouble}:\n{self._log.read_text()}")
            time.sleep(0.05)


def _broker(bench: Bench) -> dict[str, Any]:
    if url := bench.brokers.get("Redis"):
        return {"broker_url": url}
    return folder_broker_settings(bench.folder / "messages")
