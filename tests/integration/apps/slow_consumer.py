"""A consumer for tests: prints the payload of each event with its attempt, and hangs at the payload that it is told.

Arguments: DSN, that payload (-1: none), further options of the consumer as JSON.
"""

from __future__ import annotations

import json
import sys
import threading

from celery_tasker_events.consumer import Consumer

dsn, hang_at, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
consumer = Consumer(dsn, "payments", **options)


@consumer.on("*", with_delivery=True)
def handle(event, delivery):
    # One write, for several threads print at once.
    sys.stdout.write(f"{event.payload} {delivery.attempt}\n")
    sys.stdout.flush()
    if event.payload == hang_at:
        threading.Event().wait(3600)


consumer.run()
sys.stdout.write("ended\n")
