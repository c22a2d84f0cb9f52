"""The shop on a machine where no folder can be made for what the processes of a worker count together."""

from __future__ import annotations

from shop import app

from celery_tasker_events.telemetry import board

board.PLACES = ("/proc/no-such-folder",)

__all__ = ["app"]
