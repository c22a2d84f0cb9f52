"""The ``celery-tasker-events`` program: the commands that need no Celery app."""

from __future__ import annotations

import click

from celery_tasker_events.cli.catalog import catalog
from celery_tasker_events.cli.check import check
from celery_tasker_events.cli.consume import consume
from celery_tasker_events.cli.diff import diff
from celery_tasker_events.cli.dlq import dlq
from celery_tasker_events.cli.forward import forward
from celery_tasker_events.cli.grants import grants
from celery_tasker_events.cli.queues import queues
from celery_tasker_events.cli.replay import replay
from celery_tasker_events.cli.show import show
from celery_tasker_events.cli.tail import tail
from celery_tasker_events.cli.trace import trace
from celery_tasker_events.cli.types import types
from celery_tasker_events.version import __version__

__all__ = ["main"]


@click.group(name="celery-tasker-events")
@click.version_option(__version__, prog_name="celery-tasker-events")
def main() -> None:
    """Domain events without a Celery app. With one: celery -A <your app> domain-events."""


for command in (catalog, check, consume, diff, dlq, forward, grants, queues, replay, show, tail, trace, types):
    main.add_command(command)
