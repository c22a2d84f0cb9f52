"""The ``domain-events`` group of Celery's own command line."""

from __future__ import annotations

import click
from celery.bin.base import handle_preload_options

from celery_tasker_events.cli.catalog import catalog
from celery_tasker_events.cli.check import check
from celery_tasker_events.cli.diff import diff
from celery_tasker_events.cli.dlq import dlq
from celery_tasker_events.cli.forward import forward
from celery_tasker_events.cli.grants import grants
from celery_tasker_events.cli.queues import queues
from celery_tasker_events.cli.replay import replay
from celery_tasker_events.cli.setup import setup
from celery_tasker_events.cli.show import show
from celery_tasker_events.cli.spool import spool
from celery_tasker_events.cli.status import status
from celery_tasker_events.cli.tail import tail
from celery_tasker_events.cli.trace import trace
from celery_tasker_events.cli.types import types

__all__ = ["domain_events"]


@click.group(name="domain-events")
@click.pass_context
@handle_preload_options  # type: ignore[untyped-decorator]  # celery has no type hints
def domain_events(ctx: click.Context) -> None:
    """Domain events of this app's tasks."""


for command in (catalog, check, diff, dlq, forward, grants, queues, replay, setup, show, spool, status, tail, trace, types):
    domain_events.add_command(command)
