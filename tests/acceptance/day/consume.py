"""A consumer that appends each event to a file, as a line: DSN, file, visibility timeout."""

from __future__ import annotations

import sys
from pathlib import Path

from celery_tasker_events.consumer import Consumer

consumer = Consumer(sys.argv[1], "payments", on_success="archive", visibility_timeout=int(sys.argv[3]))
lines = Path(sys.argv[2]).open("a", buffering=1)  # noqa: SIM115  # for as long as the process runs


@consumer.on("*", with_delivery=True)
def note(event, delivery):
    lines.write(delivery.body + "\n")


consumer.run()
