"""``domain-events catalog``: which task publishes which event when."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import click

from celery_tasker_events.catalog import Catalog
from celery_tasker_events.cli.app import sound_plugin_of
from celery_tasker_events.cli.describe import describe
from celery_tasker_events.cli.table import as_table

__all__ = ["catalog"]

NONE = "-"


@click.command(name="catalog")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def catalog(ctx: click.Context, form: str) -> None:
    """List which task publishes which event when, by which path and publisher."""
    compiled = sound_plugin_of(ctx).catalog
    events = list(_events(compiled))
    for problem in compiled.unbound:
        click.echo(f"{problem} Its events are left out.", err=True)
    if form == "json":
        click.echo(json.dumps(events, indent=2))
    elif events:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo(as_table([_row(event) for event in events], width))
    else:
        click.echo("No events are declared.")


def _events(compiled: Catalog) -> Iterator[dict[str, Any]]:
    for task, step in compiled.steps().items():
        for bound in step.events:
            yield describe(bound.declaration, bound.namespace, task=task, step=bound.step_name, workflow=bound.workflow)
    for bound in compiled.events_by_hand():
        yield describe(bound.declaration, bound.namespace, task=None, step=None, workflow=bound.workflow)


def _row(event: dict[str, Any]) -> dict[str, str]:
    return {
        "TASK": event["task"] or NONE,
        "EVENT": event["event"],
        "WHEN": event["condition"] or "by hand",
        "MODE": event["delivery_mode"],
        "NAMESPACE": event["namespace"],
        "QUEUE": event["queue"] or NONE,
        "STEP": event["step"] or NONE,
        "TEMPLATE": event["template"] or NONE,
        "PUBLISHER": event["publisher"] or NONE,
        "VERSION": event["version"],
    }
