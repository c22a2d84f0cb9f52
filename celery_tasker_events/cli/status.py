"""``domain-events status``: what running workers say about their domain events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click
from kombu.exceptions import OperationalError

from celery_tasker_events.cli.app import plugin_of
from celery_tasker_events.cli.table import as_table, terminal_width
from celery_tasker_events.inspection import CALL_RESULTS, COMMAND
from celery_tasker_events.telemetry.counters import NAMES

__all__ = ["status"]

NONE = "-"

Answers = Mapping[str, Mapping[str, Any]]


@click.command(name="status")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="Seconds to wait.")
@click.option("--destination", "-d", metavar="NODE[,NODE]...", help="Ask these workers only, and wait for no others.")
@click.pass_context
def status(ctx: click.Context, form: str, timeout: float, destination: str | None) -> None:
    """Ask running workers what became of their domain events, summed over all their processes.

    Exits with 1 if no worker answers, or one of those that were named does not.
    """
    nodes = [node.strip() for node in destination.split(",")] if destination else []
    try:
        replies = _ask(plugin_of(ctx).app, nodes, timeout)
    except OperationalError as error:
        raise click.ClickException(f"the broker can't be asked: {error}") from error
    answers = {node: reply for node, reply in replies.items() if "error" not in reply}
    for node in sorted(replies.keys() - answers.keys()):
        click.echo(f"{node}: it has no domain events to tell of: {replies[node]['error']}", err=True)
    silent = sorted(set(nodes) - replies.keys())
    if answers:
        click.echo(json.dumps(answers, indent=2) if form == "json" else _as_text(answers))
    if silent or not replies:
        who = ", ".join(silent) or "any worker"
        raise click.ClickException(f"no answer from {who} within {timeout:g} s: is it running, and is --timeout long enough?")
    if not answers:
        ctx.exit(1)


def _ask(app: Any, nodes: Sequence[str], timeout: float) -> dict[str, Mapping[str, Any]]:
    replies = app.control.broadcast(
        COMMAND, reply=True, timeout=timeout, destination=nodes or None, limit=len(nodes) if nodes else None
    )
    answers = {node: reply for by_node in replies or () for node, reply in by_node.items()}
    return dict(sorted(answers.items()))


def _as_text(answers: Answers) -> str:
    width = terminal_width()
    tables = (_workers, _events, _reasons, _subscribers)
    parts = [as_table(list(rows(answers)), width) for rows in tables]
    notes = [f"{node}: its main process only, the counts of the others can't be had" for node in _incomplete(answers)]
    return "\n\n".join(part for part in (*parts, "\n".join(notes)) if part)


def _incomplete(answers: Answers) -> list[str]:
    return [node for node, answer in answers.items() if not answer["complete"]]


def _workers(answers: Answers) -> Iterator[dict[str, str]]:
    for node, answer in answers.items():
        yield {
            "WORKER": node,
            "PROCESSES": str(answer["processes"]),
            **{f"{channel.upper()} DEPTH": str(depth) for channel, depth in answer["depth"].items()},
            **{state.upper(): str(count) for state, count in answer["connections"].items()},
            "ON DISK": _lines(_spooled(database["spool"]) for database in answer["databases"]),
            "SUBSCRIBER ERRORS": str(answer["subscriber_errors"]),
            "DATABASE": _lines(database["dsn"] for database in answer["databases"]),
        }


def _lines(parts: Iterable[str]) -> str:
    return "; ".join(parts) or NONE


def _spooled(spool: Mapping[str, Any] | None) -> str:
    if spool is None:
        return NONE
    return spool["error"] if "error" in spool else f"{spool['events']} ({spool['bytes']} bytes)"


def _events(answers: Answers) -> Iterator[dict[str, str]]:
    for node, answer in answers.items():
        for event in answer["events"]:
            yield {
                **_event_columns(node, event),
                **{name.upper().replace("_", " "): str(event[name]) for name in NAMES},
            }


def _reasons(answers: Answers) -> Iterator[dict[str, str]]:
    for node, answer in answers.items():
        for event in answer["events"]:
            for what, counts in event["reasons"].items():
                for reason, count in counts.items():
                    yield {**_event_columns(node, event), "WHAT": what, "REASON": reason, "COUNT": str(count)}


def _event_columns(node: str, event: Mapping[str, Any]) -> dict[str, str]:
    return {
        "WORKER": node,
        "EVENT": event["event"],
        "NAMESPACE": event["namespace"],
        "MODE": event["delivery_mode"] or NONE,
    }


def _subscribers(answers: Answers) -> Iterator[dict[str, str]]:
    for node, answer in answers.items():
        for subscriber in answer["subscribers"]:
            yield {
                "WORKER": node,
                "SUBSCRIBER": subscriber["name"],
                **{result.upper().replace("_", " "): str(subscriber[result]) for result in CALL_RESULTS},
            }
