"""Real ``celery worker`` processes for tests, on a broker and a result backend that are folders."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from celery import Celery

from celery_tasker_events.testing.folder_broker import folder_broker_settings


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    """Return the condition's first true value; fail after the timeout, in seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:g} s")
        time.sleep(0.02)
    return value


def folder_broker(folder: Path) -> dict[str, Any]:
    """Celery settings for a broker and a result backend in a folder: no server needed."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    return {
        **folder_broker_settings(folder / "messages"),
        "result_backend": f"file://{folder / 'results'}",
        "worker_timer_precision": 0.05,  # a retry that is due in a fraction of a second must not wait for a second's tick
    }


class WorkerProcess:
    """One ``celery worker`` subprocess.

    Args:
        app: Its ``-A`` argument, a module in ``cwd``.
        environment: Added to the process' environment.
    """

    def __init__(
        self,
        app: str,
        cwd: Path,
        log: Path,
        environment: Mapping[str, str],
        *options: str,
        pool: str = "prefork",
        concurrency: int = 2,
    ) -> None:
        self.log_path = log
        self._arguments = [
            *(sys.executable, "-m", "celery", "-A", app, "worker", "--loglevel", "INFO"),
            *("--pool", pool, "--concurrency", str(concurrency), "--without-gossip", "--without-mingle"),
            *options,
        ]
        self._cwd = cwd
        self._environment = {**os.environ, **environment}
        self._log_start = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait_ready: bool = True) -> WorkerProcess:
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                self._arguments, cwd=self._cwd, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        if wait_ready:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        wait_until(self._is_ready_or_dead, "the worker is ready", timeout=60)
        assert self.process is not None
        assert self.process.poll() is None, f"the worker ended:\n{self.log}"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def troubles_of_ours(self) -> list[str]:
        """The tracebacks in its log that go through this package, and what the package says when it could not publish."""
        tracebacks = re.findall(r"Traceback \(most recent call last\).*?(?=\n\[|\Z)", self.log, re.DOTALL)
        warnings = re.findall(
            r".*(?:could not be published|not published|dropped|Not confirmed|event lost|Draining .* failed).*", self.log
        )
        return [text for text in tracebacks if "/celery_tasker_events/" in text] + warnings

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout: float = 60.0) -> int:
        """Send the signal and wait for the end; return the exit code.

        Celery forgets a job whose acceptance the main process has not read when the ending begins, and billiard's child
        then waits 30 seconds for somebody to read its result: see "Endings" in docs/reference/runtimes.md.
        """
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End it and its children at once, whatever state they are in."""
        if self.process is not None:
            # The children may outlive a main process that was killed, so the whole group is told.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _is_ready_or_dead(self) -> bool:
        assert self.process is not None
        # After a restart the log still holds what the former process said.
        return b" ready." in self.log_path.read_bytes()[self._log_start :] or self.process.poll() is not None


def close(app: Celery) -> None:
    """Close what ``Celery.close()`` leaves to the garbage collector: pooled connections, and those of the result backend."""
    # kombu shares its pools by URL: they are emptied and filled anew, never closed.
    app.pool.resize(app.pool.limit, reset=True)
    backend = app.backend
    consumer = getattr(backend, "result_consumer", None)
    # With rpc:// the reader of results keeps a connection of its own, from the first result that is waited for.
    if consumer is not None and getattr(consumer, "_connection", True) is not None:
        consumer.stop()
        # A result that is collected later would connect anew, to unsubscribe on Redis from what is closed.
        if getattr(consumer, "_pubsub", None) is not None:
            consumer._pubsub = None
    if (redis := vars(backend).get("client")) is not None:
        redis.connection_pool.disconnect()
    app.close()


def producer(settings: Mapping[str, Any]) -> Celery:
    """An app that only sends tasks by name and reads their results."""
    app = Celery("producer", set_as_current=False)
    app.conf.update(settings)
    return app
