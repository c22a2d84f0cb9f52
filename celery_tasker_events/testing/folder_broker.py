"""A Celery broker that is a folder: kombu's ``filesystem://`` with repairs, and the settings that it needs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from billiard.pool import Supervisor
from billiard.util import set_pdeathsig
from celery.signals import worker_process_init
from kombu.transport import filesystem
from kombu.utils.json import dumps

__all__ = ["Transport", "folder_broker_settings"]


def folder_broker_settings(folder: Path) -> dict[str, Any]:
    """Celery's settings for a broker in this folder, which is made if it is missing; for all processes of one machine."""
    (folder / "control").mkdir(parents=True, exist_ok=True)
    return {
        "broker_url": "filesystem://",
        "broker_transport": f"{__name__}:Transport",
        "broker_transport_options": {
            # Client and worker are two ends of one folder: what the one puts in, the other takes out.
            "data_folder_in": str(folder),
            "data_folder_out": str(folder),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.05,
        },
    }


class Channel(filesystem.Channel):
    """Kombu opens a message's file under its final name and writes to it then: in between, a worker that looks into the
    folder takes an empty message, and ends with an error. Here the file gets that name when it is complete.

    Nor does kombu tell the task that its message was given back: here it does, as with Redis and RabbitMQ.
    """

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]  # as kombu's own channels do
        # To the nanosecond: files are taken in the order of their names, and two may be put within one millisecond.
        name = f"{time.monotonic_ns():020}_{uuid.uuid4()}"
        if payload.get("redelivered"):
            payload["properties"]["delivery_info"]["redelivered"] = True
        unfinished = Path(self.data_folder_out, f"{name}.unfinished")
        unfinished.write_text(dumps(payload))  # type: ignore[no-untyped-call]  # kombu has few type hints
        unfinished.rename(unfinished.with_name(f"{name}.{queue}.msg"))


class Transport(filesystem.Transport):
    Channel = Channel


@worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]  # celery has no type hints
def outlive_the_thread_that_forked(**_: Any) -> None:
    """Keep Linux from killing an idle child that holds the lock which the main process waits for at its end.

    Celery has a child killed at the end of the thread that has forked it, in place of the main process. A broker without an
    event loop, as this one, has children that ended replaced by a thread, and this may end first at a warm shutdown.
    """
    if isinstance(threading.current_thread(), Supervisor):
        main_process = os.getppid()

        def end_with_the_main_process(*_: Any) -> None:
            if os.getppid() != main_process:
                os._exit(1)

        # Linux tells again when the next thread ends which it takes for the parent. Whoever knows nothing of it ignores it.
        signal.signal(signal.SIGURG, end_with_the_main_process)
        with contextlib.suppress(OSError):  # there is no such thing on this system
            set_pdeathsig(signal.SIGURG)
