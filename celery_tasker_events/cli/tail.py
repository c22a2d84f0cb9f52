"""``domain-events tail``: the last events, and those that follow, without taking them."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.cli.database import Database, database_option
from celery_tasker_events.cli.ending import ended_cleanly
from celery_tasker_events.cli.event_pattern import event_pattern
from celery_tasker_events.cli.progress import shown_progress
from celery_tasker_events.cli.queue_names import complete_queue
from celery_tasker_events.cli.reconnecting import look_for_ever
from celery_tasker_events.cli.table import terminal_width
from celery_tasker_events.consumer.entry import Entry
from celery_tasker_events.consumer.following import Follower
from celery_tasker_events.consumer.looking import find_queues
from celery_tasker_events.consumer.printable import entry_as_json, event_name_of, printable, shown, utc
from celery_tasker_events.consumer.scanning import Filter
from celery_tasker_events.durable.queues import Connection

__all__ = ["tail"]


@click.command(name="tail")
@click.argument("names", metavar="[QUEUE]...", nargs=-1, shell_complete=complete_queue)
@click.option("-n", "--lines", type=click.IntRange(min=0), default=10, show_default=True, help="How many of the last events.")
@click.option("-f", "--follow", is_flag=True, help="Go on with each event that is committed, until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(0.05, 3600), default=1, show_default=True, help="Seconds between two looks.")
@click.option("--event", "event", metavar="PATTERN", callback=event_pattern, help="Only these events, such as 'payment.*'.")
@click.option("--outcome", type=click.Choice(["completed", "retrying", "failed", "published"]), help="Only of this outcome.")
@click.option("--correlation-id", metavar="ID", help="Only with this correlation id.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@database_option
def tail(
    names: tuple[str, ...],
    lines: int,
    follow: bool,
    interval: float,
    event: Pattern | None,
    outcome: str | None,
    correlation_id: str | None,
    form: str,
    database: Database,
) -> None:
    """Show the last events of queues and their archives, the newest last; no consumer notices.

    A QUEUE is a namespace or any PGMQ queue, such as payments_domain_events_dlq; by default all of domain events.
    """
    wanted = Filter(event, outcome, correlation_id)
    with ended_cleanly(), database.told_clearly():
        with database.connect(read_only=True) as connection:
            queues = find_queues(connection, names)
            tell = _as_json if form == "json" else _as_text(with_queue=len(queues) > 1)
            followers = [Follower(queue, wanted) for queue in queues]
            with shown_progress() as progress:
                last = [entry for follower in followers for entry in follower.begin(connection, lines, progress)]
            last.sort(key=lambda entry: (entry.enqueued_at, entry.msg_id))
            _tell_all(last[-lines:] if lines else [], tell)
            if not follow:
                return
        look_for_ever(database, lambda connection: _poll(connection, followers, tell), interval)


def _poll(connection: Connection, followers: list[Follower], tell: Callable[[Entry], str]) -> None:
    behind = True
    while behind:
        for follower in followers:
            _tell_all(follower.poll(connection), tell)
        behind = any(follower.is_behind for follower in followers)


def _tell_all(entries: list[Entry], tell: Callable[[Entry], str]) -> None:
    if entries:
        click.echo("\n".join(map(tell, entries)))


def _as_json(entry: Entry) -> str:
    return entry_as_json(entry)


def _as_text(*, with_queue: bool) -> Callable[[Entry], str]:
    width = terminal_width()

    def tell(entry: Entry) -> str:
        line = _line(entry, with_queue)
        return line if width is None or len(line) <= width else f"{line[: max(width - 1, 0)]}…"

    return tell


def _line(entry: Entry, with_queue: bool) -> str:
    outline = entry.outline
    columns = [utc(entry.moment), *([shown(entry.queue)] if with_queue else [])]
    if entry.problem is not None:
        return "  ".join([*columns, shown(outline.event_name), f"message {entry.msg_id}: {printable(entry.problem)}"])
    columns += [f"{event_name_of(entry):<24}", f"{shown(outline.outcome):<11}", f"{shown(outline.step_name):<20}"]
    return "  ".join([*columns, shown(outline.correlation_id), _gist(entry)])


def _gist(entry: Entry) -> str:
    if entry.outline.error is not None:
        return f"{shown(entry.outline.error_type)}: {printable(entry.outline.error)}"
    try:
        return printable(json.dumps(entry.outline.payload, ensure_ascii=False))
    except RecursionError:
        return "(nested too deeply to be shown)"
