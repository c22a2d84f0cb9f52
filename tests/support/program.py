"""The command line that needs no Celery app, as a process of the Python at hand."""

from __future__ import annotations

import sys

PROGRAM = [sys.executable, "-c", "from celery_tasker_events.cli.main import main; main(prog_name='celery-tasker-events')"]
