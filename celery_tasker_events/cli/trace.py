"""``domain-events trace``: the story of one workflow over all namespaces."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence

import click

from celery_tasker_events.cli.database import Database, database_option
from celery_tasker_events.cli.ending import ended_cleanly
from celery_tasker_events.cli.moment import moment
from celery_tasker_events.cli.progress import shown_progress
from celery_tasker_events.cli.queue_names import complete_queue
from celery_tasker_events.cli.table import terminal_width
from celery_tasker_events.cli.timeline import as_timeline
from celery_tasker_events.consumer import looking
from celery_tasker_events.consumer.entry import Entry, span_of
from celery_tasker_events.consumer.looking import find_queues
from celery_tasker_events.consumer.printable import entry_as_json, shown
from celery_tasker_events.envelope.base import timestamp

__all__ = ["trace"]


@click.command(name="trace")
@click.argument("correlation_id")
@click.option(
    "--since",
    metavar="MOMENT",
    callback=moment,
    help="Only what was enqueued since: 15m, 2h, 7d ago, or a time.",
)
@click.option(
    "--queue", "names", metavar="QUEUE", multiple=True, shell_complete=complete_queue, help="Look only here; repeatable."
)
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="How many events at most.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@database_option
def trace(
    correlation_id: str,
    since: datetime.datetime | None,
    names: tuple[str, ...],
    limit: int,
    form: str,
    database: Database,
) -> None:
    """Show the events and dead letters with a CORRELATION_ID as a timeline, over all namespaces.

    By default a correlation id is the workflow's root id. Queues and archives are searched from end to end, unless
    --since says where to begin or an index helps. Exits with 1 if there is no such event.
    """
    with ended_cleanly(), database.connected(read_only=True) as connection, shown_progress() as progress:
        queues = find_queues(connection, names, dead_letters=True)
        entries = looking.trace(connection, queues, correlation_id, since=since, limit=limit, progress=progress)
    if not entries:
        where = ", ".join(queue.name for queue in queues) or "no queue"
        raise click.ClickException(f"no event with the correlation id {shown(correlation_id)} in {where}, nor in their archives")
    width = terminal_width()
    with ended_cleanly():
        click.echo(_as_json(correlation_id, entries, limit) if form == "json" else as_timeline(entries, width))
    if len(entries) >= limit:
        click.echo(f"There may be more than these {limit} events: --limit", err=True)


def _as_json(correlation_id: str, entries: Sequence[Entry], limit: int) -> str:
    start, end = span_of(entries)
    head = {
        "correlation_id": correlation_id,
        "started_at": timestamp(start),
        "ended_at": timestamp(end),
        "duration_ms": _milliseconds(end - start),
        "limited": len(entries) >= limit,
    }
    events = ", ".join(
        entry_as_json(entry, started_at=timestamp(entry.started_at), offset_ms=_milliseconds(entry.moment - start))
        for entry in entries
    )
    return f'{json.dumps(head)[:-1]}, "events": [{events}]}}'


def _milliseconds(duration: datetime.timedelta) -> float:
    return duration / datetime.timedelta(milliseconds=1)
