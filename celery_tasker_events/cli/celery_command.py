"""The ``domain-events`` group of Celery's own command line, which loads this file with every command of its own."""

from __future__ import annotations

import click
from celery.bin.base import handle_preload_options

from celery_tasker_events.cli.commands import WITH_APP, Commands

__all__ = ["domain_events"]


@click.group(name="domain-events", commands=Commands(dict.fromkeys(WITH_APP)))
@click.pass_context
@handle_preload_options  # type: ignore[untyped-decorator]  # celery has no type hints
def domain_events(ctx: click.Context) -> None:
    """Domain events of this app's tasks."""
