"""``domain-events replay``: sends archived events once more, to their queues, a target, or this app's subscribers."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import click
from psycopg import errors

from celery_tasker_events.cli.app import plugin_of
from celery_tasker_events.cli.database import Database, database_option
from celery_tasker_events.cli.ending import READER_GONE, ended_cleanly
from celery_tasker_events.cli.event_pattern import event_pattern
from celery_tasker_events.cli.moment import moment
from celery_tasker_events.cli.progress import shown_progress
from celery_tasker_events.cli.queue_names import complete_queue
from celery_tasker_events.cli.telling import log_to_stderr
from celery_tasker_events.consumer import replaying
from celery_tasker_events.consumer.destinations import BusDestination, Destination, QueueDestination, TargetDestination
from celery_tasker_events.consumer.entry import Entry
from celery_tasker_events.consumer.looking import find_queues
from celery_tasker_events.consumer.printable import entry_as_json, printable, shown, utc
from celery_tasker_events.consumer.replaying import Portion, Replay
from celery_tasker_events.consumer.scanning import Filter
from celery_tasker_events.consumer.targets.base import NotNow, Target, TargetGone, TargetUnavailable
from celery_tasker_events.consumer.targets.registry import target_for
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.errors import ConfigurationError

__all__ = ["replay"]

#: More events than these are replayed only after a question.
ASKED_ABOVE = 1000

#: Events that a dry run shows.
SHOWN = 10


@click.command(name="replay")
@click.option("--from", "since", metavar="MOMENT", callback=moment, help="Enqueued then or later: 15m, 2h, 7d ago, or a time.")
@click.option("--to", "until", metavar="MOMENT", callback=moment, help="Enqueued before.")
@click.option("--event", metavar="PATTERN", callback=event_pattern, help="Only these events, such as 'payment.*'.")
@click.option("--correlation-id", metavar="ID", help="Only with this correlation id.")
@click.option("--event-id", metavar="ID", help="Only this event.")
@click.option("--outcome", type=click.Choice(["completed", "retrying", "failed", "published"]), help="Only of this outcome.")
@click.option(
    "--namespace", "names", metavar="NAME", multiple=True, shell_complete=complete_queue, help="Only of this one; repeatable."
)
@click.option("--all", "everything", is_flag=True, help="Every event of the archives, where no option says which.")
@click.option("--bus", is_flag=True, help="Call the subscribers of this app, in this process, instead of sending to the queues.")
@click.option("--target", metavar="URL", help="Publish them to this target of forward, instead of sending to the queues.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events a second at most.")
@click.option("--dry-run", is_flag=True, help="Tell how many and which; send nothing.")
@click.option(
    "--yes", is_flag=True, help=f"Do not ask, however many there are; by default more than {ASKED_ABOVE} are asked about."
)
@click.option("--resume", "replay_id", metavar="REPLAY_ID", help="Go on with a replay that was interrupted.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@database_option
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    names: tuple[str, ...],
    everything: bool,
    bus: bool,
    target: str | None,
    rate: float | None,
    dry_run: bool,
    yes: bool,
    replay_id: str | None,
    form: str,
    database: Database,
    **wishes: Any,
) -> None:
    """Send archived events once more, marked as replays, each to the queue that it came from.

    Exits with 1 if there is none, if a subscriber failed (--bus), if the target refused an event or could not be used
    (--target), or if the database fails; with 130 after Ctrl-C. What was interrupted goes on with --resume.
    """
    log_to_stderr()
    _check(names, wishes, everything=everything, dry_run=dry_run, replay_id=replay_id)
    with ended_cleanly(), database.told_clearly(), contextlib.closing(_destination(ctx, target, bus=bus)) as destination:
        if dry_run:
            with database.connect(read_only=True) as connection:
                wanted = Filter(**wishes, originals=True)
                portions = replaying.find_portions(connection, find_queues(connection, names), wanted)
                _tell_plan(connection, portions, wanted, form)
            return
        with database.connect() as connection:
            if replay_id is not None:
                begun = replaying.resume(connection, replay_id, destination)
            else:
                begun = _begin(connection, names, Filter(**wishes, originals=True), destination, yes=yes)
            with _target_told_clearly(), _told_how_to_resume(begun), shown_progress() as progress:
                begun.run(destination, rate=rate, progress=progress)
    # The events themselves may be on stdout.
    _tell_end(begun, destination, form, to_stderr=target is not None and target.partition(":")[0] == "stdout")


def _check(names: Sequence[str], wishes: dict[str, Any], *, everything: bool, dry_run: bool, replay_id: str | None) -> None:
    says_which = bool(names) or any(wish is not None for wish in wishes.values())
    if replay_id is not None:
        if says_which or everything or dry_run:
            raise click.UsageError("--resume goes on with what the replay began with: give no option that says which events")
        return
    if everything and says_which:
        raise click.UsageError("--all and options that say which events exclude each other")
    if not everything and not says_which:
        raise click.UsageError("say which events: --from, --to, --event, --correlation-id, ..., or --all")
    if wishes["since"] and wishes["until"] and wishes["since"] >= wishes["until"]:
        raise click.UsageError("--from must be before --to")


def _destination(ctx: click.Context, target: str | None, *, bus: bool) -> Destination:
    if target is not None and bus:
        raise click.UsageError("--target and --bus exclude each other")
    if target is not None:
        return TargetDestination(_target(target))
    if not bus:
        return QueueDestination()
    if ctx.obj is None:
        raise click.UsageError("--bus calls an app's subscribers: celery -A <your app> domain-events replay --bus")
    plugin = plugin_of(ctx)
    if not plugin.subscribers.all():
        raise click.ClickException("this app has no subscribers")
    return BusDestination(plugin.subscribers, timeout=plugin.settings.dispatch_timeout_ms / 1000)


def _target(url: str) -> Target:
    if url.startswith("celery:"):
        raise click.UsageError("--target can't start tasks of another app: replay to the queues, and let forward start them")
    try:
        return target_for(url)
    except ConfigurationError as error:
        raise click.UsageError(f"--target: {error}") from error


@contextlib.contextmanager
def _target_told_clearly() -> Iterator[None]:
    """Tell that it is the target which can't go on, and not the database."""
    try:
        yield
    except TargetGone:
        raise click.exceptions.Exit(READER_GONE) from None
    except (TargetUnavailable, NotNow) as error:
        raise click.ClickException(f"the target takes no more now: {error}") from error
    except ConfigurationError as error:
        raise click.ClickException(f"the target can't be used: {error}") from error


def _begin(connection: Connection, names: Sequence[str], wanted: Filter, destination: Destination, *, yes: bool) -> Replay:
    portions = replaying.find_portions(connection, find_queues(connection, names), wanted)
    with shown_progress() as progress:
        counts = replaying.count(connection, portions, wanted, progress)
    if not counts:
        raise click.ClickException("no archived event is so: what a consumer deletes can't be replayed, only what it archives")
    if counts.total() > ASKED_ABOVE and not yes:
        click.echo("\n".join(_lines(counts)), err=True)
        click.confirm(f"Send {counts.total()} events to the {destination.name} once more?", abort=True, err=True)
    kept = {queue for queue, _ in counts}
    try:
        return replaying.begin(connection, [portion for portion in portions if portion.queue in kept], wanted, destination)
    except errors.InsufficientPrivilege as error:
        raise click.ClickException(
            f"{str(error).strip()}: a replay notes how far it is in the table celery_tasker_events_replays, which this role "
            "may not make or write to. Run a replay once as a role that may, then grant select, insert, update and delete on it"
        ) from error


@contextlib.contextmanager
def _told_how_to_resume(begun: Replay) -> Iterator[None]:
    click.echo(f"Replay {begun.replay_id}; if it is interrupted, go on with --resume {begun.replay_id}", err=True)
    try:
        yield
    except BaseException:
        done = begun.report.replayed.total()
        click.echo(f"Interrupted after {done} events; go on with --resume {begun.replay_id}", err=True)
        raise


def _tell_plan(connection: Connection, portions: Sequence[Portion], wanted: Filter, form: str) -> None:
    with shown_progress() as progress:
        counts = replaying.count(connection, portions, wanted, progress)
    first = replaying.first_events(connection, portions, wanted, SHOWN)
    if form == "json":
        by_event = [{"queue": queue, "event_name": name, "events": number} for (queue, name), number in sorted(counts.items())]
        entries = ", ".join(map(entry_as_json, first))
        click.echo(
            f'{json.dumps({"dry_run": True, "events": counts.total(), "by_event": by_event})[:-1]}, "first": [{entries}]}}'
        )
        return
    click.echo("\n".join([f"{counts.total()} events would be replayed", *_lines(counts)]))
    if first:
        click.echo("\n".join(["The first of them:", *map(_line, first)]))


def _lines(counts: Counter[tuple[str, str]]) -> Iterator[str]:
    for (queue, name), number in sorted(counts.items()):
        yield f"{number:>10}  {shown(name or None)} of {shown(queue)}"


def _line(entry: Entry) -> str:
    outline = entry.outline
    columns = (utc(entry.enqueued_at), *map(shown, (outline.event_name, outline.event_id, outline.correlation_id)))
    return "  ".join(columns)


def _tell_end(begun: Replay, destination: Destination, form: str, *, to_stderr: bool) -> None:
    report = begun.report
    for reason in report.reasons:
        click.echo(f"Left out: {printable(reason)}", err=True)
    if form == "json":
        said = {"replay_id": begun.replay_id, "destination": destination.name, "events": report.replayed.total()}
        more = {"by_event": dict(report.replayed), "left_out": report.left_out, "failed": destination.failed}
        click.echo(json.dumps({**said, **more}), err=to_stderr)
    else:
        left_out = f", {report.left_out} messages left out that are no events" if report.left_out else ""
        click.echo(f"{report.replayed.total()} events replayed to the {destination.name}{left_out}", err=to_stderr)
    if destination.failed:
        raise click.ClickException(f"{destination.what_failed}; the log says which")
