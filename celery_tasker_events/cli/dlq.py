"""``dlq list|show|retry|purge``: dead letters. With an app (``celery -A``), or with a database alone (``--dsn``)."""

from __future__ import annotations

import datetime
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.cli.database import Database, database_option
from celery_tasker_events.cli.ending import ended_cleanly
from celery_tasker_events.cli.event_pattern import event_pattern
from celery_tasker_events.cli.remaking import remake_of
from celery_tasker_events.cli.showing import as_json, row, shown
from celery_tasker_events.cli.table import as_table, terminal_width
from celery_tasker_events.cli.writing import format_option
from celery_tasker_events.consumer.retrying import Retrying
from celery_tasker_events.durable.dead_letters import DeadLetter, DeadLetters, Wanted
from celery_tasker_events.errors import did_you_mean

__all__ = ["dlq"]

F = TypeVar("F", bound=Callable[..., Any])


@click.group(name="dlq")
def dlq() -> None:
    """Events that could not be published: look at them, publish them after all, delete them."""


def _age(ctx: click.Context, parameter: click.Parameter, value: str | None) -> datetime.timedelta | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,6})([smhdw])", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no age: a number and s, m, h, d or w, such as 12h or 30d")
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    return datetime.timedelta(**{units[match[2]]: int(match[1])})


_NAMESPACE = click.option("--namespace", help="Only letters of this namespace; by default of all.")
_EVENT = click.option("--event", metavar="PATTERN", callback=event_pattern, help="Only events such as 'payment.*'.")


@dlq.command(name="list")
@database_option
@_NAMESPACE
@_EVENT
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many are listed at most.")
@click.option("--after", type=int, default=0, metavar="MSG_ID", help="Begin behind this one; with --namespace.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def list_letters(database: Database, namespace: str | None, event: Pattern | None, limit: int, after: int, form: str) -> None:
    """List dead letters, oldest first. Nothing is taken out of the queue, and no letter is hidden from anybody."""
    if after and namespace is None:
        raise click.UsageError("--after needs --namespace: each namespace counts its letters by itself")
    with ended_cleanly(), database.connected() as connection:
        letters = DeadLetters(connection)
        _check_namespace(letters, namespace)
        found = list(itertools.islice(letters.outlines(_wanted(namespace, event), after, min(limit + 1, 500)), limit + 1))
        _tell_list(found, limit, form)


def _tell_list(found: Sequence[DeadLetter], limit: int, form: str) -> None:
    listed = found[:limit]
    if form == "json":
        click.echo(json.dumps([as_json(letter) for letter in listed], indent=2))
    elif listed:
        width = terminal_width()
        click.echo(as_table([row(letter) for letter in listed], width))
    else:
        click.echo("No dead letters.")
    if len(found) > limit:
        last = listed[-1]
        click.echo(f"There are more: --limit, or --namespace {last.namespace} --after {last.message_id}", err=True)


@dlq.command(name="show")
@database_option
@_NAMESPACE
@format_option
@click.argument("message_id", metavar="MSG_ID", type=int)
def show(database: Database, namespace: str | None, form: str, message_id: int) -> None:
    """Show one dead letter with all that it keeps."""
    with ended_cleanly(), database.connected() as connection:
        letters = DeadLetters(connection)
        _check_namespace(letters, namespace)
        letter = _one(letters, message_id, namespace)
        click.echo(json.dumps(as_json(letter, whole=True), indent=2) if form == "json" else shown(letter))


@dlq.command(name="retry")
@database_option
@_NAMESPACE
@_EVENT
@click.option("--all", "everything", is_flag=True, help="All letters of the namespace, or of all namespaces.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done; no publisher is asked.")
@format_option
@click.argument("message_ids", metavar="[MSG_ID]...", type=int, nargs=-1)
@click.pass_context
def retry(
    ctx: click.Context,
    database: Database,
    namespace: str | None,
    event: Pattern | None,
    everything: bool,
    dry_run: bool,
    form: str,
    message_ids: tuple[int, ...],
) -> None:
    """Publish events after all, with the event id, the idempotency key and the time that they had.

    What Postgres refused is sent as it is. What failed earlier is made again from the step's outcome by the publishers and
    schemas of the app, so that needs celery -A. Sending an event and deleting its letter is one transaction. A letter whose
    event still can't be published stays. Exits with 1 if one does.
    """
    if bool(message_ids) == (everything or event is not None):
        raise click.UsageError("say which: MSG_ID..., --event PATTERN, or --all")
    with ended_cleanly(), database.connected() as connection:
        letters = DeadLetters(connection)
        _check_namespace(letters, namespace)
        chosen = _chosen(letters, message_ids, _wanted(namespace, event))
        retrying = Retrying(letters, remake_of(ctx), dry_run=dry_run)
        told = []
        for letter in chosen:
            retried = retrying.retry(letter)
            if form == "json":
                told.append(retried.as_json())
            else:
                click.echo(retried)
        if form == "json":
            click.echo(json.dumps({"dry_run": dry_run, "done": retrying.done, "left": retrying.left, "letters": told}))
        else:
            click.echo(retrying.summary())
    if retrying.left:
        ctx.exit(1)


@dlq.command(name="purge")
@database_option
@_NAMESPACE
@_EVENT
@click.option("--older-than", metavar="AGE", callback=_age, help="Only letters older than this, such as 12h or 30d.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@format_option
@click.argument("message_ids", metavar="[MSG_ID]...", type=int, nargs=-1)
def purge(
    database: Database,
    namespace: str | None,
    event: Pattern | None,
    older_than: datetime.timedelta | None,
    yes: bool,
    form: str,
    message_ids: tuple[int, ...],
) -> None:
    """Delete dead letters for good: those named, or all that the options leave."""
    if message_ids and (event is not None or older_than is not None):
        raise click.UsageError("MSG_ID... goes without --event and --older-than")
    wanted = _wanted(namespace, event, older_than)
    with ended_cleanly(), database.connected() as connection:
        letters = DeadLetters(connection)
        _check_namespace(letters, namespace)
        named = [_one(letters, message_id, namespace) for message_id in message_ids]
        count = len(named) if message_ids else letters.count(wanted)
        if count and not yes:
            click.confirm(f"Delete {_number(count)} for good?", abort=True, err=form == "json")
        deleted = sum(letters.delete(letter) for letter in named) if message_ids else letters.purge(wanted)
        click.echo(json.dumps({"deleted": deleted}) if form == "json" else f"{_number(deleted)} deleted")


def _wanted(namespace: str | None, event: Pattern | None, older_than: datetime.timedelta | None = None) -> Wanted:
    return Wanted(namespace, event.regular_expression if event else None, older_than)


def _number(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


def _check_namespace(letters: DeadLetters, namespace: str | None) -> None:
    if namespace is not None and namespace not in (known := letters.namespaces()):
        raise click.ClickException(f"namespace {namespace!r} has no queue for dead letters.{did_you_mean(namespace, known)}")


def _chosen(letters: DeadLetters, message_ids: tuple[int, ...], wanted: Wanted) -> Iterator[DeadLetter]:
    if message_ids:
        # All of them are looked up first: a mistyped one shall not leave half of the work done.
        yield from [_one(letters, message_id, wanted.namespace) for message_id in message_ids]
        return
    for outline in letters.outlines(wanted):
        # One that somebody else has retried meanwhile is not there any more.
        yield from letters.find(outline.message_id, outline.namespace)


def _one(letters: DeadLetters, message_id: int, namespace: str | None) -> DeadLetter:
    found = letters.find(message_id, namespace)
    if not found:
        raise click.ClickException(f"there is no dead letter {message_id}{f' in {namespace}' if namespace else ''}")
    if len(found) > 1:
        places = ", ".join(letter.namespace for letter in found)
        raise click.ClickException(f"there is a dead letter {message_id} in each of {places}: say which with --namespace")
    return found[0]
