"""What ``consume`` and ``forward`` tell on stderr: warnings while they run, then the counts, and what has ended them."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping

import click
import psycopg

from celery_tasker_events.cli.database import Database
from celery_tasker_events.consumer.printable import printable_lines
from celery_tasker_events.errors import TaskerEventsError

__all__ = ["log_to_stderr", "told_at_the_end"]


def log_to_stderr() -> None:
    """Show warnings and errors only: events may be on stdout, and what is about each of them would drown the rest."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class _Formatter(logging.Formatter):
    """A log line quotes events, and a terminal obeys control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


@contextlib.contextmanager
def told_at_the_end(
    database: Database, statistics: Callable[[], Mapping[str, int]], form: str, nothing: str, failures: list[str]
) -> Iterator[None]:
    """For the ``with`` block, turn errors into words; after it, tell the counts on stderr.

    Args:
        form: ``"text"`` or ``"json"``.
        nothing: What to tell if all counts are 0.
        failures: What has gone wrong; the block may add to it.

    Raises:
        click.ClickException: exit code 1, with the first failure.
    """
    log_to_stderr()
    try:
        yield
    except psycopg.Error as error:
        failures.append(f"{database}: {str(error).strip()}")
    except TaskerEventsError as error:
        failures.append(str(error))
    counts = statistics()
    if form == "json":
        click.echo(json.dumps(counts), err=True)
    else:
        told = [f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count and name != "received"]
        click.echo(", ".join(told) or nothing, err=True)
    if failures:
        raise click.ClickException(printable_lines(failures[0]))
