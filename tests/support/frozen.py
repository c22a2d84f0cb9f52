"""Freezes a Postgres server as a hanging disk or a paused virtual machine would: it neither answers nor refuses."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres


@contextlib.contextmanager
def frozen(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Stop every process of the server inside the ``with`` block, and let them go on after it."""
    pid = int((Path(postgres._directory) / "postmaster.pid").read_text().splitlines()[0])
    postmaster = psutil.Process(pid)
    stopped: list[psutil.Process] = []
    try:
        # The postmaster first, so that it starts no other meanwhile.
        for process in [postmaster, *postmaster.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
                stopped.append(process)
        yield
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
