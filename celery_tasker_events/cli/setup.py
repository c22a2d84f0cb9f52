"""``domain-events setup``: prepares the database."""

from __future__ import annotations

from collections.abc import Sequence

import click
import psycopg

from celery_tasker_events.cli.app import sound_plugin_of
from celery_tasker_events.declaration import namespace_problem
from celery_tasker_events.durable.message import dead_letter_queue
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import set_up
from celery_tasker_events.errors import DatabaseNotReady
from celery_tasker_events.event import queue_name
from celery_tasker_events.settings import masked_dsn

__all__ = ["setup"]

_NEEDS = (
    "Installing PGMQ needs CREATE on the database; creating queues needs USAGE and CREATE on the schema pgmq, and SELECT and "
    "INSERT on pgmq.meta (with PGMQ before 1.6 as an extension, to own it): run it as the role that owns them, with --dsn"
)


@click.command(name="setup")
@click.option("--dsn", help="Another database than tasker_events_dsn, such as postgresql://user@host/database.")
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    help="Create this namespace's queues too, of events that nobody declares; repeatable.",
)
@click.pass_context
def setup(ctx: click.Context, dsn: str | None, namespaces: Sequence[str]) -> None:
    """Install PGMQ where it is missing and create the declared queues. Safe to repeat, and to run twice at once."""
    for namespace in namespaces:
        if problem := namespace_problem(namespace):
            raise click.BadParameter(problem, param_hint="--namespace")
    plugin = sound_plugin_of(ctx)
    dsn = dsn or plugin.settings.dsn
    if dsn is None:
        raise click.UsageError("no database: set tasker_events_dsn in the app's configuration or give --dsn")
    queues = plugin.catalog.durable_queues() | {queue_name(namespace) for namespace in namespaces}
    try:
        with connect(dsn) as connection:
            report = set_up(connection, {*queues, *map(dead_letter_queue, queues)})
    except psycopg.errors.InsufficientPrivilege as error:
        raise click.ClickException(f"setting up {masked_dsn(dsn)} failed: {error.diag.message_primary}. {_NEEDS}") from error
    except (psycopg.Error, DatabaseNotReady) as error:
        raise click.ClickException(f"setting up {masked_dsn(dsn)} failed: {error}") from error
    click.echo(f"PGMQ: installed as {report.installed}" if report.installed else "PGMQ: was installed already")
    for queue in report.created:
        click.echo(f"queue {queue}: created")
    for queue in report.existing:
        click.echo(f"queue {queue}: existed already")
