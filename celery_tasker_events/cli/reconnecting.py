"""Goes on watching a database through its outages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

import click
import psycopg

from celery_tasker_events.cli.database import Database
from celery_tasker_events.durable.queues import Connection

__all__ = ["look_for_ever"]

#: Seconds until the next attempt while Postgres can't be reached: doubled from the first to the last.
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 10.0


def look_for_ever(database: Database, look: Callable[[Connection], None], interval: float) -> NoReturn:
    """Call the function with a connection that cannot write, again and again; an outage is told on stderr, once.

    Args:
        interval: Seconds between two calls.
    """
    backoff, told = FIRST_BACKOFF, ""
    while True:
        try:
            with database.connect(read_only=True) as connection:
                backoff, told = FIRST_BACKOFF, ""
                while True:
                    look(connection)
                    time.sleep(interval)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if told != (told := str(error).strip()):
                click.echo(f"{database}: {told}; trying again", err=True)
            time.sleep(backoff)
            backoff = min(2 * backoff, LAST_BACKOFF)
