"""``domain-events show``: one event, wherever it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from celery_tasker_events.cli.database import Database, database_option
from celery_tasker_events.cli.ending import ended_cleanly
from celery_tasker_events.cli.progress import shown_progress
from celery_tasker_events.cli.queue_names import complete_queue
from celery_tasker_events.consumer.entry import Entry
from celery_tasker_events.consumer.looking import find_event, find_queues
from celery_tasker_events.consumer.printable import NONE, entry_as_json, pretty, shown, utc

__all__ = ["show"]


@click.command(name="show")
@click.argument("event_id")
@click.option(
    "--queue", "names", metavar="QUEUE", multiple=True, shell_complete=complete_queue, help="Look only here; repeatable."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@database_option
def show(event_id: str, names: tuple[str, ...], form: str, database: Database) -> None:
    """Show the event EVENT_ID from whichever queue, archive or dead letters it is in.

    The time in its id says where to look first. Exits with 1 if it is nowhere.
    """
    with ended_cleanly(), database.connected(read_only=True) as connection, shown_progress() as progress:
        queues = find_queues(connection, names, dead_letters=True)
        found = find_event(connection, queues, event_id, progress)
    if not found:
        where = ", ".join(queue.name for queue in queues) or "no queue"
        raise click.ClickException(f"no event {shown(event_id)} in {where}, nor in their archives: it may have been deleted")
    with ended_cleanly():
        if form == "json":
            places = f"[{', '.join(map(entry_as_json, found))}]"
            click.echo(f'{{"event_id": {json.dumps(event_id)}, "places": {places}}}')
        else:
            click.echo("\n\n".join("\n".join(_lines(entry)) for entry in found))


def _lines(entry: Entry) -> Iterator[str]:
    outline = entry.outline
    error = ": ".join(part for part in (outline.error_type, outline.error) if part is not None)
    duration = outline.execution_time_ms
    fields = {
        "event": f"{shown(outline.event_name)} {shown(outline.event_version)}",
        "event id": shown(outline.event_id),
        "problem": shown(entry.problem),
        "outcome": shown(outline.outcome),
        "failed stage": shown(outline.failed_stage),
        "error": shown(error or None),
        "attempt": shown(outline.attempt),
        "duration": NONE if duration is None else f"{duration:g} ms",
        "step": shown(outline.step_name),
        "step id": shown(outline.step_uuid),
        "workflow id": shown(outline.task_uuid),
        "correlation id": shown(outline.correlation_id),
        "namespace": shown(outline.namespace),
        "fired at": utc(outline.fired_at),
        "fired by": shown(outline.fired_by),
        "replay": shown(outline.replay_id),
        "envelope": shown(outline.envelope),
        "place": f"{shown(entry.queue)}{'' if entry.archived_at is None else ' (archive)'}, message {entry.msg_id}",
        "enqueued at": utc(entry.enqueued_at),
        "archived at": utc(entry.archived_at),
        "visible from": utc(entry.visible_at) if entry.archived_at is None else NONE,
        "read": f"{entry.read_ct} times",
    }
    for name, value in fields.items():
        if value != NONE:
            yield f"{name:<15} {value}"
    yield f"{'headers':<15} {pretty(entry.headers)}"
    yield f"{'message':<15} {pretty(entry.message)}"
