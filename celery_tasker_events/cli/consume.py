"""``celery-tasker-events consume``: durable events as lines of JSON, for a pipe or for a program in any language."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import click

from celery_tasker_events.bus.pattern import patterns_of
from celery_tasker_events.cli.database import Database, database_option
from celery_tasker_events.cli.program import EachProgram, Programs, command_of
from celery_tasker_events.cli.telling import told_at_the_end
from celery_tasker_events.consumer import Consumer, Delivery, IdempotencyStore, MemoryStore, PostgresStore
from celery_tasker_events.consumer.handling import Interrupted
from celery_tasker_events.event import DomainEvent

__all__ = ["consume"]

_STORES: dict[str, Callable[[], IdempotencyStore]] = {"memory": MemoryStore, "postgres": PostgresStore}


@click.command(name="consume")
@click.argument("namespaces", metavar="NAMESPACE...", nargs=-1, required=True)
@database_option
@click.option(
    "--on", "patterns", metavar="PATTERN", multiple=True, default=("*",), help="Events to hand over, such as 'payment.*'."
)
@click.option("--exec", "program", metavar="COMMAND", help="Start this once; it reads an event a line and answers 'ok' a line.")
@click.option("--exec-each", "each", metavar="COMMAND", help="Start this for each event; exit code 0: it was handled.")
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="Events that are handled at once."
)
@click.option("--archive", is_flag=True, help="Archive what was handled instead of deleting it.")
@click.option("--unmatched", type=click.Choice(["archive", "delete", "dead_letter"]), default="archive", show_default=True)
@click.option("--unordered", is_flag=True, help="Do not keep the events of a workflow in order.")
@click.option("--until-empty", "--once", is_flag=True, help="End when nothing is left to read and nothing to try again.")
@click.option("--max-attempts", type=click.IntRange(1, 2**30), default=5, show_default=True, help="Then it is a dead letter.")
@click.option("--visibility-timeout", type=click.IntRange(3, 86400), default=30, show_default=True, help="In seconds.")
@click.option("--remember", type=click.Choice(list(_STORES)), help="Hand over each event once, by its idempotency key.")
@click.option("--name", default="consume", show_default=True, help="Tells consumers apart that remember in one table.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Of the summary.")
def consume(
    namespaces: tuple[str, ...],
    database: Database,
    patterns: tuple[str, ...],
    program: str | None,
    each: str | None,
    form: str,
    archive: bool,
    unordered: bool,
    until_empty: bool,
    remember: str | None,
    **options: Any,
) -> None:
    """Consume durable events, in order within each workflow, until SIGTERM or SIGINT.

    Without a command each event is a line of JSON on stdout, and is done with when the line is written. Then, or when the
    program has handled it, it is deleted. A NAMESPACE may be the name of its queue. What was done is told on stderr at the
    end. Exits with 1 if the database or the program fails.
    """
    if program and each:
        raise click.UsageError("--exec and --exec-each can't be used together")
    try:
        patterns_of(patterns)
        consumer = Consumer(
            database.dsn,
            *namespaces,
            on_success="archive" if archive else "delete",
            ordered=not unordered,
            store=_STORES[remember]() if remember else None,
            **options,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    failures: list[str] = []

    def fail(message: str) -> None:
        failures.append(message)
        consumer.stop()

    handler, close = _handler(consumer, program, each, fail)
    consumer.on(*patterns, name="cli", with_delivery=True)(handler)
    with told_at_the_end(database, consumer.statistics, form, "nothing was consumed", failures):
        try:
            consumer.run(until_empty=until_empty)
        finally:
            close()


def _handler(
    consumer: Consumer, program: str | None, each: str | None, fail: Callable[[str], None]
) -> tuple[Callable[[DomainEvent, Delivery], None], Callable[[], None]]:
    """Return what hands an event over, and what ends it all."""
    if program:
        programs = Programs(command_of(program), fail)
        return programs, programs.close
    if each:
        return EachProgram(command_of(each)), _nothing
    return _Printer(consumer), _nothing


class _Printer:
    """Writes each event as a line to stdout."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._lock = threading.Lock()

    def __call__(self, event: DomainEvent, delivery: Delivery) -> None:
        try:
            with self._lock:
                sys.stdout.buffer.write(delivery.body.encode() + b"\n")
                sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Whoever read has had enough, as head has: this event has not arrived, and comes again.
            self._consumer.stop()
            _give_up_stdout()
            raise Interrupted from None


def _give_up_stdout() -> None:
    # Python flushes it once more at its end, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nothing() -> None:
    pass
