"""A consumer that appends each event to a file, as a line: DSN, file, visibility timeout, events held at most."""

from __future__ import annotations

import sys
from pathlib import Path

from celery_tasker_events.consumer import Consumer

dsn, path, lease, held = sys.argv[1:]
consumer = Consumer(dsn, "payments", on_success="archive", visibility_timeout=int(lease), batch_size=int(held))
lines = Path(path).open("a", buffering=1)  # noqa: SIM115  # for as long as the process runs


@consumer.on("*", with_delivery=True)
def note(event, delivery):
    lines.write(delivery.body + "\n")


consumer.run()
