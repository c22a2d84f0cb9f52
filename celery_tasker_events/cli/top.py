"""``top``: how long the queues are, how fast events come and what is dead, again and again."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import click

from celery_tasker_events.cli.database import Database, database_option
from celery_tasker_events.cli.ending import ended_cleanly
from celery_tasker_events.cli.queue_names import complete_queue
from celery_tasker_events.cli.reconnecting import look_for_ever
from celery_tasker_events.cli.table import as_table, terminal_width
from celery_tasker_events.consumer.printable import NONE, shown
from celery_tasker_events.consumer.quantities import duration, rate
from celery_tasker_events.consumer.sampling import QueueSample, Sample, Sampler
from celery_tasker_events.envelope.base import timestamp

__all__ = ["top"]

#: Columns of the live table, and how wide a terminal must be to show each.
COLUMNS = {"QUEUE": 0, "LENGTH": 0, "RATE": 0, "OLDEST": 48, "DEAD": 60, "LAST EVENT": 96, "AGO": 80}

#: They are told from the left by these.
RIGHT = ("LENGTH", "RATE", "OLDEST", "DEAD", "AGO")

Show = Callable[[Sample], None]


@click.command(name="top")
@click.argument("names", metavar="[QUEUE]...", nargs=-1, shell_complete=complete_queue)
@click.option("--interval", type=click.FloatRange(0.05, 3600), default=2, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Look twice, for the rate, then tell and end.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@database_option
def top(names: tuple[str, ...], interval: float, once: bool, form: str, database: Database) -> None:
    """Watch the queues until Ctrl-C: length, publish rate, age of the oldest message, dead letters, last event.

    A QUEUE is a namespace or any PGMQ queue; by default all of domain events. As JSON each look is one line.
    """
    sampler = Sampler(names)
    with ended_cleanly(), database.told_clearly():
        with database.connect(read_only=True) as connection:
            first = sampler.sample(connection)
            if once:
                time.sleep(interval)
                (_print_json if form == "json" else _print_table)(sampler.sample(connection))
                return
        with _shown(form) as show:
            show(first)
            time.sleep(interval)
            look_for_ever(database, lambda connection: show(sampler.sample(connection)), interval)


@contextlib.contextmanager
def _shown(form: str) -> Iterator[Show]:
    """What shows each sample: a table that stays in its place, on a terminal; else one after the other."""
    if form == "json":
        yield _print_json
    elif not sys.stdout.isatty():
        yield _print_table
    else:
        try:
            from rich.console import Group
            from rich.live import Live
            from rich.table import Table
            from rich.text import Text
        except ImportError as error:
            raise click.ClickException(
                "the live table needs rich: pip install 'celery-tasker-events[cli]'; --once and --format json do without"
            ) from error

        def drawn(sample: Sample, width: int) -> Group:
            rows = _rows(sample)
            headings = [heading for heading, needed in COLUMNS.items() if width >= needed]
            table = Table(box=None, pad_edge=False)
            for heading in headings:
                is_name = heading in ("QUEUE", "LAST EVENT")
                table.add_column(
                    heading,
                    justify="right" if heading in RIGHT else "left",
                    no_wrap=True,
                    overflow="ellipsis" if is_name else "fold",
                )
            for row in rows:
                style = "red" if row["DEAD"] not in ("0", NONE) else None
                table.add_row(*(Text(row[heading]) for heading in headings), style=style)
            return Group(table, Text(_caption(sample), style="dim"))

        with Live(auto_refresh=False) as live:
            yield lambda sample: live.update(drawn(sample, live.console.width), refresh=True)


def _print_json(sample: Sample) -> None:
    click.echo(json.dumps({"at": timestamp(sample.at), "queues": [queue.as_json() for queue in sample.queues]}))
    sys.stdout.flush()


def _print_table(sample: Sample) -> None:
    click.echo(as_table(_rows(sample), terminal_width()) if sample.queues else "No queues of domain events.")
    sys.stdout.flush()


def _caption(sample: Sample) -> str:
    return f"{sample.at:%H:%M:%S} UTC{'' if sample.queues else ', no queues of domain events'}; Ctrl-C ends it"


def _rows(sample: Sample) -> Sequence[dict[str, str]]:
    return [_row(sample, queue) for queue in sample.queues]


def _row(sample: Sample, queue: QueueSample) -> dict[str, str]:
    state, last = queue.state, queue.last
    return {
        "QUEUE": shown(state.queue.namespace or state.queue.name),
        "LENGTH": shown(state.length),
        "RATE": rate(queue.rate),
        "OLDEST": duration(queue.oldest_age),
        "DEAD": shown(state.dead_letters),
        "LAST EVENT": shown(last and last.outline.event_name),
        "AGO": NONE if last is None else duration(max((sample.at - last.enqueued_at).total_seconds(), 0.0)),
    }
