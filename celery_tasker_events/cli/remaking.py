"""Makes the event of a dead letter again with the publishers and schemas of the app that a command was given."""

from __future__ import annotations

import click

from celery_tasker_events import envelope
from celery_tasker_events.cli.app import sound_plugin_of
from celery_tasker_events.consumer.retrying import Remake
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.rerun import Rerun

__all__ = ["remake_of"]


def remake_of(ctx: click.Context) -> Remake | None:
    """Return what makes an event again; None without an app. The app's declarations are compiled when it is first called.

    Calling it raises NotPublishable, and click.ClickException if the declarations are wrong.
    """
    if ctx.obj is None:
        return None
    made: list[Rerun] = []

    def remake(outcome_text: object) -> DurableMessage:
        if not made:
            plugin = sound_plugin_of(ctx)
            settings = plugin.settings
            made.append(Rerun(plugin.catalog.find, envelope.by_name(settings.envelope), settings.max_event_bytes))
        return made[0].message_of(outcome_text)

    return remake
