"""``console``: a page in the browser with what the queues hold and what goes through them."""

from __future__ import annotations

import contextlib
import secrets

import click

from celery_tasker_events.cli.database import Database, database_option
from celery_tasker_events.cli.declared import declared_entries
from celery_tasker_events.cli.ending import ended_cleanly
from celery_tasker_events.cli.remaking import remake_of
from celery_tasker_events.consumer.looking import find_queues

__all__ = ["console"]


@click.command(name="console")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="0: a free one.")
@click.option("--allow-actions", is_flag=True, help="Let who has the token replay events and retry dead letters.")
@click.option("--allow-host", "hosts", metavar="NAME", multiple=True, help="A name that it may be reached under; repeatable.")
@click.option("--no-token", is_flag=True, help="Let everybody on this machine in.")
@click.option(
    "--interval", type=click.FloatRange(0.05, 3600), default=5, show_default=True, help="Seconds between two points of a chart."
)
@database_option
@click.pass_context
def console(
    ctx: click.Context,
    host: str,
    port: int,
    allow_actions: bool,
    hosts: tuple[str, ...],
    no_token: bool,
    interval: float,
    database: Database,
) -> None:
    """Serve a page with events as they come, workflows, queues, dead letters and the catalog, until Ctrl-C.

    It only looks, unless --allow-actions is given. The address that it prints has a token: whoever has it sees all events.
    """
    try:
        from celery_tasker_events.console.access import Access, is_loopback
        from celery_tasker_events.console.application import Application
        from celery_tasker_events.console.offer import Offer
        from celery_tasker_events.console.serving import CannotListen, listen, serve
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"the console needs {error.name}, of an extra: pip install 'celery-tasker-events[console]'"
        ) from error
    is_local = is_loopback(host)
    if no_token and not is_local:
        raise click.UsageError(f"--no-token is for 127.0.0.1 only: on {host} everybody in the network could read the events")
    entries = None if ctx.obj is None else declared_entries(ctx, (), None)
    with ended_cleanly(), database.told_clearly():
        with database.connect(read_only=True) as connection:
            find_queues(connection)
        try:
            listening = listen(host, port)
        except CannotListen as error:
            raise click.ClickException(str(error)) from error
        with contextlib.closing(listening):
            bound = listening.getsockname()[1]
            token = None if no_token else secrets.token_urlsafe(24)
            access = Access(token, hosts=(host, *hosts), any_address=not is_local, port=bound)
            offer = Offer(database.dsn, str(database), interval, entries, allow_actions, remake_of(ctx))
            _tell_where(host, bound, token, is_local=is_local, allow_actions=allow_actions)
            serve(Application(offer, access), listening)


def _tell_where(host: str, port: int, token: str | None, *, is_local: bool, allow_actions: bool) -> None:
    if not is_local:
        click.echo(
            f"Care: {host} is reached from other machines, and what they send and get is not encrypted. Everybody who learns "
            "the token sees all events. Better: listen on 127.0.0.1, and reach it with ssh -L or through a proxy with TLS.",
            err=True,
        )
    name = f"[{host}]" if ":" in host else host
    query = "" if token is None else f"?token={token}"
    click.echo(f"Console{' with actions' if allow_actions else ', read-only'}: http://{name}:{port}/{query}")
    click.echo("Ctrl-C ends it.", err=True)
