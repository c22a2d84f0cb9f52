"""``domain-events spool``: the file in which durable events of this host wait while Postgres can't take them."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import click

from celery_tasker_events.cli.app import sound_plugin_of
from celery_tasker_events.cli.table import as_table, terminal_width
from celery_tasker_events.cli.writing import format_option
from celery_tasker_events.durable.spool.place import spool_path
from celery_tasker_events.durable.spool.report import clear, events_by_owner, spool_totals, waiting
from celery_tasker_events.errors import SpoolUnusable
from celery_tasker_events.plugin import DomainEvents

__all__ = ["spool"]


@click.group(name="spool")
def spool() -> None:
    """Durable events that wait on this host's disk for Postgres."""


@spool.command(name="show")
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def show(ctx: click.Context, output: str) -> None:
    """Show how many wait, and which."""
    paths = _paths(sound_plugin_of(ctx))
    try:
        found = [_found(path) for path in paths]
    except SpoolUnusable as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        click.echo(json.dumps(found))
        return
    width = terminal_width()
    for one in found:
        since = f", the oldest since {one['oldest']}" if one["oldest"] else ""
        click.echo(f"{one['path']}: {one['events']} events, {one['bytes']} bytes{since}")
        if one["waiting"]:
            click.echo(as_table([_row(event) for event in one["waiting"]], width))


@spool.command(name="flush")
@click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds to wait for Postgres.")
@format_option
@click.pass_context
def flush(ctx: click.Context, timeout: float, form: str) -> None:
    """Publish what processes left there that do not run any more. Running ones publish theirs themselves."""
    plugin = sound_plugin_of(ctx)
    paths = _paths(plugin)
    deadline = time.monotonic() + timeout
    try:
        before = _by_owner(paths)
        running = {owner: events for owner, (events, is_running) in before.items() if is_running}
        orphaned = sum(events for events, _ in before.values()) - sum(running.values())
        plugin.adopt()
        while (left := _left(paths, running)) and time.monotonic() < deadline:
            time.sleep(0.05)
        plugin.close(0)
    except SpoolUnusable as error:
        raise click.ClickException(str(error)) from error
    if form == "json":
        click.echo(json.dumps({"done": orphaned - left, "running": sum(running.values()), "left": left}))
    else:
        click.echo(f"{orphaned - left} events published or parked as dead letters")
        if running:
            click.echo(f"{sum(running.values())} events wait for processes that are running: they publish them themselves")
    if left:
        raise click.ClickException(f"{left} events are still there: Postgres did not take them within {timeout:g} s")


@spool.command(name="clear")
@click.option("--yes", is_flag=True, help="Do not ask.")
@format_option
@click.pass_context
def clear_command(ctx: click.Context, yes: bool, form: str) -> None:
    """Throw away all that waits there. These events are lost."""
    paths = _paths(sound_plugin_of(ctx))
    try:
        events = sum(spool_totals(path).events for path in paths)
        if events and not yes:
            click.confirm(f"Throw away {events} events in {', '.join(map(str, paths))}?", abort=True, err=form == "json")
        thrown_away = sum(map(clear, paths))
    except SpoolUnusable as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps({"thrown_away": thrown_away}) if form == "json" else f"{thrown_away} events thrown away")


def _found(path: Path) -> dict[str, Any]:
    totals = spool_totals(path)
    oldest = None if totals.oldest is None else datetime.datetime.fromtimestamp(totals.oldest, datetime.timezone.utc).isoformat()
    return {"path": str(path), **totals._asdict(), "oldest": oldest, "waiting": [event._asdict() for event in waiting(path)]}


def _by_owner(paths: Sequence[Path]) -> dict[str, tuple[int, bool]]:
    return {owner: found for path in paths for owner, found in events_by_owner(path).items()}


def _left(paths: Sequence[Path], running: Collection[str]) -> int:
    """How many events are there of nobody, or of this process that has adopted them."""
    return sum(events for owner, (events, _) in _by_owner(paths).items() if owner not in running)


def _paths(plugin: DomainEvents) -> list[Path]:
    settings = plugin.settings
    if not settings.dsns or not settings.spool_max_bytes:
        setting = "tasker_events_spool_max_bytes is 0" if settings.dsns else "tasker_events_dsn is not set"
        raise click.ClickException(f"this app has no spool: {setting}")
    return [spool_path(dsn, settings.spool_dir) for dsn in settings.dsns]


def _row(event: dict[str, Any]) -> dict[str, str]:
    process = "running" if event["is_owned"] else "ended"
    return {"NAMESPACE": event["namespace"], "EVENT": event["event_name"], "PROCESS": process, "EVENTS": str(event["events"])}
