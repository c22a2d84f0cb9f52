"""``domain-events queues``: what the queues of domain events hold."""

from __future__ import annotations

import json

import click

from celery_tasker_events.cli.database import Database, database_option
from celery_tasker_events.cli.queue_names import complete_queue, declared_queues
from celery_tasker_events.cli.table import as_table, terminal_width
from celery_tasker_events.consumer.looking import QueueState, find_queues, queue_states
from celery_tasker_events.consumer.printable import shown, utc

__all__ = ["queues"]


@click.command(name="queues")
@click.argument("names", metavar="[QUEUE]...", nargs=-1, shell_complete=complete_queue)
@click.option("--exact", is_flag=True, help="Count all messages; by default more than 100000 are an estimate, marked '~'.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@database_option
@click.pass_context
def queues(ctx: click.Context, names: tuple[str, ...], exact: bool, form: str, database: Database) -> None:
    """Show how long the queues are, their oldest and newest message, and what is archived and dead.

    A QUEUE is a namespace or any PGMQ queue; by default all of domain events.
    """
    with database.connected(read_only=True) as connection:
        found = find_queues(connection, names)
        states = queue_states(connection, found, exact=exact)
    if not names:
        for queue in sorted(declared_queues(ctx.obj and ctx.obj.app) - {queue.name for queue in found}):
            click.echo(f"{queue}: declared by the app, not created yet: domain-events setup does it", err=True)
    if form == "json":
        click.echo(json.dumps([state.as_json() for state in states], indent=2))
    elif states:
        width = terminal_width()
        click.echo(as_table([_row(state) for state in states], width))
    else:
        click.echo("No queues of domain events.")


def _row(state: QueueState) -> dict[str, str]:
    return {
        "QUEUE": shown(state.queue.name),
        "LENGTH": shown(state.length),
        "INVISIBLE": shown(state.invisible),
        "OLDEST": utc(state.oldest),
        "NEWEST": utc(state.newest),
        "TOTAL": shown(state.total),
        "ARCHIVED": shown(state.archived),
        "DEAD": shown(state.dead_letters),
    }
