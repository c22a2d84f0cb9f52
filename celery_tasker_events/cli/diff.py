"""``diff``: what changed between two contracts, and whether it breaks anybody; made for CI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from celery_tasker_events.contract.changes import Change
from celery_tasker_events.contract.compare import compare
from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.contract.sources import read_entries
from celery_tasker_events.errors import ConfigurationError

__all__ = ["diff"]


class CanNotBeCompared(click.ClickException):
    """Not the same as being different, to who only looks at the exit code."""

    exit_code = 2


@click.command(name="diff")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--accept", "accepted", metavar="EVENT", multiple=True, help="Breaking changes of this event do not count; repeatable."
)
@click.option("--environment", help="Whose overrides of the templates count.")
@click.argument("old")
@click.argument("new")
@click.pass_context
def diff(ctx: click.Context, form: str, accepted: tuple[str, ...], environment: str | None, old: str, new: str) -> None:
    """Compare the declared events of OLD with those of NEW, and tell breaking from safe changes.

    Each is a folder or pattern of task templates, one template, or what catalog wrote as json or asyncapi. Exits with 1 if
    there is a breaking change and the major part of the event's, or its template's, version was not raised; with 2 if they
    can't be compared.
    """
    changes = compare(_read(old, environment), _read(new, environment), accepted)
    click.echo(_as_json(changes) if form == "json" else _as_text(changes))
    if any(_counts(change) for change in changes):
        ctx.exit(1)


def _read(source: str, environment: str | None) -> list[CatalogEntry]:
    try:
        return read_entries(source, environment)
    except ConfigurationError as error:
        raise CanNotBeCompared(f"{source} can't be compared: {error}") from error


def _counts(change: Change) -> bool:
    return change.is_breaking and not change.is_accepted


def _as_text(changes: Sequence[Change]) -> str:
    return "\n".join([*(_line(change) for change in changes), _summary(changes)])


def _line(change: Change) -> str:
    severity = "safe" if not change.is_breaking else "accepted" if change.is_accepted else "BREAKING"
    version = change.new_version or change.old_version
    place = f" {change.place}" if change.place else ""
    who = f" [{', '.join(sorted(affected.value for affected in change.affects))}]" if change.affects else ""
    return f"{severity}: {change.event} {version}{place}: {change.rule.label}{_values(change)}{who}: {change.rule.reason}"


def _values(change: Change) -> str:
    if change.old is None and change.new is None:
        return ""
    return f" ({_shown(change.old)} -> {_shown(change.new)})"


def _shown(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def _summary(changes: Sequence[Change]) -> str:
    counts = _numbers(changes)
    plural = "" if counts["breaking"] == 1 else "s"
    return f"{counts['breaking']} breaking change{plural}, {counts['accepted']} accepted, {counts['safe']} safe"


def _numbers(changes: Sequence[Change]) -> dict[str, int]:
    return {
        "breaking": sum(_counts(change) for change in changes),
        "accepted": sum(change.is_breaking and change.is_accepted for change in changes),
        "safe": sum(not change.is_breaking for change in changes),
    }


def _as_json(changes: Sequence[Change]) -> str:
    return json.dumps({"changes": [change.as_json() for change in changes], "summary": _numbers(changes)}, indent=2)
