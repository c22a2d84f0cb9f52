"""Which database a command uses: ``--dsn``, else the app's, else the environment's; and clear words when it fails."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict

from celery_tasker_events.cli.app import plugin_of
from celery_tasker_events.consumer.looking import connect_to_look
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.errors import ConfigurationError, TaskerEventsError
from celery_tasker_events.settings import masked_dsn

__all__ = ["DSN_VARIABLE", "INTERRUPTED", "Database", "database_option", "named_database"]

F = TypeVar("F", bound=Callable[..., Any])

#: The environment variable for those who have no app, or whose app names no database.
DSN_VARIABLE = "TASKER_EVENTS_DSN"

#: libpq's own variables that say where a database is. With none of them its defaults would be a guess.
LIBPQ_VARIABLES = ("PGSERVICE", "PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER")

#: Exit code of a command that Ctrl-C ended, as a shell gives it: 128 and the number of SIGINT.
INTERRUPTED = 130


@dataclass(frozen=True)
class Database:
    """Where a command finds its messages.

    Attributes:
        dsn: libpq connection string; empty if libpq's own environment variables say all.
        origin: Who named it, such as ``"--dsn"``.
    """

    dsn: str
    origin: str

    def __str__(self) -> str:
        return f"{masked_dsn(self.dsn) or 'the database'} ({self.origin})"

    def connect(self, *, read_only: bool = False) -> Connection:
        """Open a connection, in autocommit; its errors are psycopg's own, so use it inside :meth:`told_clearly`.

        Args:
            read_only: Whether Postgres itself shall keep its transactions from writing.
        """
        return connect_to_look(self.dsn) if read_only else connect(self.dsn)

    @contextlib.contextmanager
    def connected(self, *, read_only: bool = False) -> Iterator[Connection]:
        """A connection for the ``with`` block, inside :meth:`told_clearly`."""
        with self.told_clearly(), self.connect(read_only=read_only) as connection:
            yield connection

    @contextlib.contextmanager
    def told_clearly(self) -> Iterator[None]:
        """Turn what may go wrong into a message without a traceback or a password, and the exit code of a command.

        Raises:
            click.ClickException: exit code 1, for trouble with the database or what is in it.
            click.exceptions.Exit: 130, for Ctrl-C.
        """
        try:
            yield
        except psycopg.Error as error:
            raise click.ClickException(f"{self}: {str(error).strip()}") from error
        except TaskerEventsError as error:
            raise click.ClickException(f"{self}: {error}") from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


def database_option(command: F) -> F:
    """Give a command ``--dsn``, and its function the argument ``database``, a :class:`Database`."""
    return click.option(
        "--dsn",
        "database",
        metavar="DSN",
        callback=_resolve,
        help=f"Database with PGMQ, such as postgresql://user@host/database. By default the app's tasker_events_dsn, "
        f"else {DSN_VARIABLE} of the environment, else libpq's variables (PGHOST, PGDATABASE, ...).",
    )(command)


def named_database(dsn_of_app: str | None) -> Database | None:
    """Return the database that an app names, else the environment; None if neither does."""
    if dsn_of_app:
        return Database(dsn_of_app, "tasker_events_dsn")
    if dsn := os.environ.get(DSN_VARIABLE):
        return Database(dsn, DSN_VARIABLE)
    if named := [name for name in LIBPQ_VARIABLES if os.environ.get(name)]:
        return Database("", ", ".join(named))
    return None


def _resolve(ctx: click.Context, parameter: click.Parameter, given: str | None) -> Database | None:
    if ctx.resilient_parsing:  # a shell asks for completions: nothing may fail, and the app is not at hand
        return None if given is None else Database(given, "--dsn")
    database = Database(given, "--dsn") if given is not None else named_database(_dsn_of_app(ctx))
    if database is None:
        raise click.UsageError(
            f"no database: give --dsn, or set {DSN_VARIABLE} or libpq's PGHOST and PGDATABASE in the environment"
            + (", or tasker_events_dsn in the app's configuration" if ctx.obj is not None else "")
        )
    try:
        conninfo_to_dict(database.dsn)
    except psycopg.ProgrammingError:
        # The value is never repeated, nor what libpq says of it: either may hold a password.
        message = "is not a connection string that libpq understands, such as 'postgresql://user@host/database'"
        raise click.BadParameter(message, ctx, parameter, database.origin) from None
    return database


def _dsn_of_app(ctx: click.Context) -> str | None:
    if ctx.obj is None:
        return None
    try:
        settings = plugin_of(ctx).settings
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    if len(settings.dsns) > 1:
        places = [f"{namespace}: {masked_dsn(dsn)}" for namespace, dsn in settings.namespace_dsns.items()]
        if settings.dsn is not None:
            places.append(f"all others: {masked_dsn(settings.dsn)}")
        raise click.UsageError(
            f"the app's events are in {len(settings.dsns)} databases, name one with --dsn: {', '.join(places)}"
        )
    return next(iter(settings.dsns), None)
