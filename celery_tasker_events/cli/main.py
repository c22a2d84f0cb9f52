"""The ``celery-tasker-events`` program: the commands that need no Celery app."""

from __future__ import annotations

import click

from celery_tasker_events.cli.commands import ALONE, Commands
from celery_tasker_events.version import __version__

__all__ = ["main"]


@click.group(name="celery-tasker-events", commands=Commands(dict.fromkeys(ALONE)))
@click.version_option(__version__, prog_name="celery-tasker-events")
def main() -> None:
    """Domain events without a Celery app. With one: celery -A <your app> domain-events."""
