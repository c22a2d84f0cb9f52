"""A pattern of event names on the command line."""

from __future__ import annotations

import click

from celery_tasker_events.bus.pattern import Pattern

__all__ = ["event_pattern"]


def event_pattern(ctx: click.Context, parameter: click.Parameter, given: str | None) -> Pattern | None:
    """Callback of an option: ``payment.*``, as subscribers have it."""
    try:
        return None if given is None else Pattern(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
