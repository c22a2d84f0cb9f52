"""Another Celery app, on a broker of its own: its task is started by events, and writes them to a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery

app = Celery("crm", broker=os.environ["CRM_BROKER"])
app.conf.task_default_queue = os.environ["CRM_QUEUE"]


@app.task(bind=True, name="crm.book")
def book(self, event):
    line = {"task_id": self.request.id, "event": event, "correlation": self.request.headers.get("tasker_correlation_id")}
    with Path(os.environ["CRM_OUTPUT"]).open("a") as output:
        output.write(json.dumps(line) + "\n")
