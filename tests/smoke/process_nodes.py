"""Nodes that are local: a real prefork worker's processes, a broker and results in folders, an embedded Postgres."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal as signals
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import ExecResult
from pytest_celery import CeleryWorkerContainer
from worker_process import WorkerProcess, folder_broker

from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import create_queues

from .database import QUEUES, Database

FOLDER = Path(__file__).parent / "worker"


class ProcessContainer:
    """Behaves as a container of Docker's SDK, as far as pytest-celery looks at one, but is a worker's processes.

    Args:
        log: Where the worker's output goes, that of all its starts.
        environment: What is added to the environment of the tests.
    """

    # pytest-celery asks which networks to wait for, and for which ports: for none.
    attrs: Mapping[str, Any] = {
        "NetworkSettings": {"Networks": {}, "Ports": {}},
        "HostConfig": {"PortBindings": {}},
    }

    name = "local worker"

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self._environment = environment
        name = f"{CeleryWorkerContainer.worker_name()}@%h"
        self._worker = WorkerProcess("app", FOLDER, log, environment, "--hostname", name)

    @property
    def status(self) -> str:
        process = self._worker.process
        return "running" if process and process.poll() is None else "exited"

    def reload(self) -> None:
        """Nothing to do: the status is always the present one."""

    def logs(self) -> bytes:
        return self._worker.log.encode()

    def start(self) -> None:
        """Start the worker and wait until it is ready; fail, with its log, if it ends instead."""
        self._worker.start()

    def kill(self, signal: str | int | None = None) -> None:
        number = signals.Signals[signal] if isinstance(signal, str) else signals.Signals(signal or signals.SIGKILL)
        if number is signals.SIGKILL:
            # A container does not outlive its first process, and neither does anything else that runs in it.
            self._worker.kill()
        elif self._worker.process:
            self._worker.process.send_signal(number)

    def restart(self, timeout: float = 10) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._worker.stop(timeout=timeout)
        self._worker.kill()
        self.start()

    def exec_run(self, cmd: str | Sequence[str]) -> ExecResult:
        """Run another command beside the worker, to its end; its first word is a console script's module."""
        command = shlex.split(cmd) if isinstance(cmd, str) else cmd
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=FOLDER,
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
            check=False,
        )
        return ExecResult(done.returncode, done.stdout)


@pytest.fixture
def database(new_database: Callable[[], str]) -> Database:
    dsn = new_database()
    with connect(dsn) as connection:
        create_queues(connection, QUEUES)
    return Database(dsn, worker_dsn=dsn)


@pytest.fixture
def celery_broker_cluster() -> None:
    """The broker is a folder, so it needs no node."""


@pytest.fixture
def celery_backend_cluster() -> None:
    """And neither does the result backend."""


@pytest.fixture
def celery_setup_config(tmp_path: Path) -> dict[str, Any]:
    """How the test and its worker find each other."""
    return folder_broker(tmp_path)


@pytest.fixture
def default_worker_env(celery_setup_config: dict[str, Any], database: Database) -> dict[str, str]:
    return {"SHOP_SETTINGS": json.dumps({**celery_setup_config, "tasker_events_dsn": database.worker_dsn})}


@pytest.fixture
def default_worker_container(tmp_path: Path, default_worker_env: dict[str, str]) -> Iterator[CeleryWorkerContainer]:
    process = ProcessContainer(tmp_path / "worker.log", default_worker_env)
    try:
        process.start()
        yield CeleryWorkerContainer(process)
    finally:
        process.kill()
