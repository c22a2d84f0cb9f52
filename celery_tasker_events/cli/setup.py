"""``domain-events setup``: prepares the database."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence

import click
import psycopg

from celery_tasker_events.cli.app import sound_plugin_of
from celery_tasker_events.cli.writing import format_option
from celery_tasker_events.declaration import namespace_problem
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import SetupReport, set_up
from celery_tasker_events.durable.readiness import queues_by_dsn
from celery_tasker_events.errors import DatabaseNotReady
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
@format_option
@click.pass_context
def setup(ctx: click.Context, dsn: str | None, namespaces: Sequence[str], form: str) -> None:
    """Install PGMQ where it is missing and create the declared queues. Safe to repeat, and to run twice at once."""
    for namespace in namespaces:
        if problem := namespace_problem(namespace):
            raise click.BadParameter(problem, param_hint="--namespace")
    plugin = sound_plugin_of(ctx)
    settings = plugin.settings if dsn is None else dataclasses.replace(plugin.settings, dsn=dsn, namespace_dsns={})
    declared = plugin.catalog.durable_namespaces()
    by_dsn = queues_by_dsn(settings, {*declared, *namespaces}) or {dsn: set() for dsn in settings.dsns}
    if not by_dsn:
        raise click.UsageError("no database: set tasker_events_dsn in the app's configuration or give --dsn")
    reports = []
    for place, queues in by_dsn.items():
        if len(by_dsn) > 1 and form == "text":
            click.echo(f"{masked_dsn(place)}:")
        reports.append({"database": masked_dsn(place), **dataclasses.asdict(report := _set_up(place, queues))})
        if form == "text":
            _tell(report)
    if form == "json":
        click.echo(json.dumps(reports))


def _set_up(dsn: str, queues: Collection[str]) -> SetupReport:
    try:
        with connect(dsn) as connection:
            return set_up(connection, queues)
    except psycopg.errors.InsufficientPrivilege as error:
        raise click.ClickException(f"setting up {masked_dsn(dsn)} failed: {error.diag.message_primary}. {_NEEDS}") from error
    except (psycopg.Error, DatabaseNotReady) as error:
        raise click.ClickException(f"setting up {masked_dsn(dsn)} failed: {error}") from error


def _tell(report: SetupReport) -> None:
    click.echo(f"PGMQ: installed as {report.installed}" if report.installed else "PGMQ: was installed already")
    for queue in report.created:
        click.echo(f"queue {queue}: created")
    for queue in report.existing:
        click.echo(f"queue {queue}: existed already")
