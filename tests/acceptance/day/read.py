"""A plain kombu consumer that appends each message to a file, as a line, and acknowledges it: URL, queue, file."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path

from kombu import Connection, Queue

lines = Path(sys.argv[3]).open("a", buffering=1)  # noqa: SIM115  # for as long as the process runs
queue = Queue(sys.argv[2], durable=True)


def note(message):
    body = message.body
    lines.write((body.decode() if isinstance(body, bytes) else body).rstrip("\n") + "\n")
    message.ack()


while True:
    with Connection(sys.argv[1]) as connection:
        connection.ensure_connection(interval_start=0.2, interval_step=0.2, interval_max=1)
        try:
            with connection.Consumer(queue, on_message=note, prefetch_count=1):
                while True:
                    with contextlib.suppress(socket.timeout):
                        connection.drain_events(timeout=1)
        except (*connection.connection_errors, *connection.channel_errors):
            continue
