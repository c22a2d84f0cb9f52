"""A consumer for tests that stops after so many events, and prints how much memory it has needed at most, in kB.

Arguments: DSN, number of events, whether in order (0 or 1).
"""

from __future__ import annotations

import resource
import sys

from celery_tasker_events.consumer import Consumer

dsn, count, is_ordered = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1"
consumer = Consumer(dsn, "payments", ordered=is_ordered)
seen = 0


@consumer.on("*")
def handle(event):
    global seen
    seen += 1
    if seen == count:
        consumer.stop()


consumer.run()
print(seen, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
