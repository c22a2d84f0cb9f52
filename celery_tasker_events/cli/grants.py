"""``grants``: prints the SQL for a role that may only publish, and for one that may only consume."""

from __future__ import annotations

import json

import click

from celery_tasker_events.cli.app import sound_plugin_of
from celery_tasker_events.cli.writing import format_option
from celery_tasker_events.declaration import namespace_problem
from celery_tasker_events.durable import grants as rights
from celery_tasker_events.event import queue_name

__all__ = ["grants"]


@click.command(name="grants")
@click.option("--publisher", "publishers", metavar="ROLE", multiple=True, help="May send events and dead letters, not read them.")
@click.option("--consumer", "consumers", metavar="ROLE", multiple=True, help="May read, delete and archive them, not send.")
@click.option("--namespace", "namespaces", metavar="NAME", multiple=True, help="By default all that the app declares.")
@format_option
@click.pass_context
def grants(
    ctx: click.Context, publishers: tuple[str, ...], consumers: tuple[str, ...], namespaces: tuple[str, ...], form: str
) -> None:
    """Print the SQL that gives these roles the rights that they need on the queues of these namespaces.

    It asks no database. The roles and the queues must be there when it is run; each option may be given several times.
    """
    if not publishers and not consumers:
        raise click.UsageError("no role: give --publisher ROLE, --consumer ROLE, or both")
    for namespace in namespaces:
        if problem := namespace_problem(namespace):
            raise click.BadParameter(problem, param_hint="--namespace")
    queues = {queue_name(namespace) for namespace in namespaces} or _declared_queues(ctx)
    try:
        statements = rights.grants(queues, publishers, consumers)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if form == "json":
        told = {"publishers": publishers, "consumers": consumers, "queues": sorted(queues), "sql": statements}
        click.echo(json.dumps(told))
    else:
        click.echo(statements)


def _declared_queues(ctx: click.Context) -> set[str]:
    if ctx.obj is None:
        raise click.UsageError("no queue: give --namespace NAME, or an app with celery -A <your app> domain-events grants")
    queues = {queue_name(namespace) for namespace in sound_plugin_of(ctx).catalog.durable_namespaces()}
    if not queues:
        raise click.UsageError("the app declares no durable event: give --namespace NAME")
    return queues
