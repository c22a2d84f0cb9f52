"""``forward``: durable events go on to a broker, a webhook, another Celery app or stdout. With an app or without."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psycopg

from celery_tasker_events.cli.database import Database, database_option
from celery_tasker_events.cli.progress import shown_progress
from celery_tasker_events.cli.queue_names import complete_queue
from celery_tasker_events.cli.telling import told_at_the_end
from celery_tasker_events.consumer.forwarder import Forwarder
from celery_tasker_events.consumer.looking import connect_to_look, find_queues, queue_states
from celery_tasker_events.consumer.targets import TargetOptions, schemes
from celery_tasker_events.errors import ConfigurationError, TaskerEventsError

__all__ = ["forward"]

#: Seconds between two steps of the progress bar.
STEP = 0.2


def _complete_target(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    known = ["stdout:", *(f"{scheme}://" for scheme in schemes() if scheme != "stdout")]
    return [each for each in known if each.startswith(incomplete)]


@click.command(name="forward")
@click.argument("namespaces", metavar="NAMESPACE...", nargs=-1, required=True, shell_complete=complete_queue)
@database_option
@click.option("--to", metavar="URL", shell_complete=_complete_target, help="amqp://, redis://, https://, celery://TASK, stdout:")
@click.option("--to-env", metavar="NAME", help="Environment variable with the URL: other users see what is on a command line.")
@click.option("--exchange", metavar="NAME", help="Topic exchange.  [default: domain_events]")
@click.option("--routing-key", metavar="TEMPLATE", help="Such as '{namespace}.{event_name}'.  [default: {event_name}]")
@click.option("--queue", metavar="NAME", help="Make this queue, and bind it to every event; for celery:// the task's queue.")
@click.option("--unroutable", type=click.Choice(["retry", "drop"]), help="AMQP: events no queue is bound for.  [default: retry]")
@click.option("--broker", metavar="URL", help="Broker of the other app, for celery://.")
@click.option("--broker-env", metavar="NAME", help="Environment variable with that URL.")
@click.option("--secret-env", metavar="NAME", help="Environment variable with the secret that webhooks are signed with.")
@click.option("--secret-file", type=click.Path(exists=True, dir_okay=False), help="File with that secret.")
@click.option("--timeout", type=click.FloatRange(0.1, 3600), help="Seconds that the target may take.  [default: 30]")
@click.option("--event", "events", metavar="PATTERN", multiple=True, default=("*",), help="Only these events; with --others.")
@click.option("--others", type=click.Choice(["archive", "delete"]), help="What becomes of events that are not forwarded.")
@click.option("--archive", is_flag=True, help="Archive what was forwarded instead of deleting it.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="Threads that publish.")
@click.option("--batch-size", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Events held at most.")
@click.option("--unordered", is_flag=True, help="Do not keep the events of a workflow in order.")
@click.option("--until-empty", "--once", is_flag=True, help="End when nothing is left to read and nothing to try again.")
@click.option("--max-attempts", type=click.IntRange(1, 2**30), help="Refusals until it is a dead letter.  [default: no limit]")
@click.option("--visibility-timeout", type=click.IntRange(3, 86400), default=30, show_default=True, help="In seconds.")
@click.option("--name", default="forward", show_default=True, help="Who gave up, in dead letters.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Of the summary.")
def forward(
    namespaces: tuple[str, ...],
    database: Database,
    to: str | None,
    to_env: str | None,
    archive: bool,
    unordered: bool,
    until_empty: bool,
    form: str,
    **options: Any,
) -> None:
    """Publish durable events to another system, in order within each workflow, until SIGTERM or SIGINT.

    An event is deleted when the target has confirmed it: at least once, whatever is killed or stopped when. Start as many
    as you like. While the target is down it is waited for. What was done is told on stderr at the end. Exits with 1 if the
    database or the target can't be used.
    """
    url = _one_of("--to", to, "--to-env", to_env)
    if url is None:
        raise click.UsageError("no target: give --to or --to-env")
    target_options = _taken_target_options(options)
    try:
        forwarder = Forwarder(
            database.dsn,
            *namespaces,
            to=url,
            options=target_options,
            on_success="archive" if archive else "delete",
            ordered=not unordered,
            **options,
        )
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    with (
        told_at_the_end(database, forwarder.statistics, form, "nothing was forwarded", failures=[]),
        _progress(forwarder, database),
    ):
        forwarder.run(until_empty=until_empty)


def _taken_target_options(options: dict[str, Any]) -> TargetOptions:
    """Take what is the target's out of the command's options."""
    given = {name: options.pop(name) for name in ("exchange", "routing_key", "queue", "unroutable", "timeout")}
    return TargetOptions(
        secret=_secret(options.pop("secret_env"), options.pop("secret_file")),
        broker=_one_of("--broker", options.pop("broker"), "--broker-env", options.pop("broker_env")),
        **given,
    )


def _one_of(option: str, value: str | None, env_option: str, name: str | None) -> str | None:
    if value is not None and name is not None:
        raise click.UsageError(f"{option} and {env_option} can't be used together")
    return value if name is None else _variable(env_option, name)


def _variable(option: str, name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise click.UsageError(f"{option}: the environment variable {name} is not set")
    return value


def _secret(name: str | None, file: str | None) -> str | None:
    if name is not None and file is not None:
        raise click.UsageError("--secret-env and --secret-file can't be used together")
    if name is not None:
        return _variable("--secret-env", name)
    if file is None:
        return None
    return Path(file).read_text(encoding="utf-8").strip()


@contextlib.contextmanager
def _progress(forwarder: Forwarder, database: Database) -> Iterator[None]:
    """Show on a terminal how many of the events that were there at the start are forwarded."""
    with shown_progress() as tell:
        ended = threading.Event()

        def watch() -> None:
            total = 0
            with contextlib.suppress(psycopg.Error, TaskerEventsError), connect_to_look(database.dsn) as connection:
                states = queue_states(connection, find_queues(connection, forwarder.queues))
                total = sum(state.length.number for state in states)
            while not ended.wait(STEP):
                done = forwarder.statistics()["forwarded"]
                tell(f"forwarded to {forwarder.target}", done, max(done, total))

        watching = threading.Thread(target=watch, name="tasker-events-progress", daemon=True)
        if sys.stderr.isatty():
            watching.start()
        try:
            yield
        finally:
            ended.set()
            if watching.ident is not None:
                watching.join(5)
