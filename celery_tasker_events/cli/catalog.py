"""``catalog``: which task publishes which event when; for people, for programs, and for those who consume them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from celery_tasker_events.cli.app import plugin_of
from celery_tasker_events.cli.declared import declared_entries
from celery_tasker_events.cli.table import as_table, terminal_width
from celery_tasker_events.cli.writing import write
from celery_tasker_events.contract.asyncapi import asyncapi_document
from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.contract.html import html_page
from celery_tasker_events.contract.markdown import markdown_page
from celery_tasker_events.envelope import NAMES, by_name

__all__ = ["catalog"]

NONE = "-"


@click.command(name="catalog")
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "asyncapi", "markdown", "html"]), default="table", show_default=True
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file; asyncapi in YAML for .yaml.")
@click.option("--title", help="Of the document; by default the app's name with 'domain events'.")
@click.option("--api-version", default="1.0.0", show_default=True, help="Version of the asyncapi document.")
@click.option("--envelope", type=click.Choice(NAMES), help="By default tasker_events_envelope of the app, or native.")
@click.option("--environment", help="Whose overrides of the templates count, without an app.")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.pass_context
def catalog(
    ctx: click.Context,
    form: str,
    output: Path | None,
    title: str | None,
    api_version: str,
    envelope: str | None,
    environment: str | None,
    files: tuple[str, ...],
) -> None:
    """List which task publishes which event when, by which path and publisher.

    As asyncapi it is an AsyncAPI 3 document of what arrives in the queues; as markdown or html a page for people. Without an
    app it is about the task templates FILE...
    """
    entries = declared_entries(ctx, files, environment)
    title = title or _title(ctx)
    wire = by_name(envelope or _envelope(ctx))
    if form == "table":
        write(_table(entries, None if output else terminal_width()), output)
    elif form == "json":
        write(json.dumps([entry.as_json() for entry in entries], indent=2), output)
    elif form == "asyncapi":
        write(_as_text(asyncapi_document(entries, wire, title, api_version), output), output)
    else:
        page = markdown_page if form == "markdown" else html_page
        write(page(entries, wire, title), output)


def _title(ctx: click.Context) -> str:
    name = ctx.obj.app.main if ctx.obj is not None else None
    return f"{name} domain events" if name else "Domain events"


def _envelope(ctx: click.Context) -> str:
    return plugin_of(ctx).settings.envelope if ctx.obj is not None else "native"


def _as_text(document: Any, output: Path | None) -> str:
    if output is not None and output.suffix in (".yaml", ".yml"):
        return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return json.dumps(document, indent=2)


class _Dumper(yaml.SafeDumper):
    """Writes a value that stands in several places several times: not all readers of YAML know aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _table(entries: Sequence[CatalogEntry], width: int | None) -> str:
    return as_table([_row(entry) for entry in entries], width) if entries else "No events are declared."


def _row(entry: CatalogEntry) -> dict[str, str]:
    return {
        "TASK": entry.task or NONE,
        "EVENT": entry.event,
        "WHEN": entry.when,
        "MODE": entry.delivery_mode,
        "NAMESPACE": entry.namespace,
        "QUEUE": entry.queue or NONE,
        "STEP": entry.step or NONE,
        "TEMPLATE": entry.template or NONE,
        "PUBLISHER": entry.publisher or NONE,
        "VERSION": entry.version,
    }
