"""The plugin of the Celery app that a command was given with ``celery -A``."""

from __future__ import annotations

from typing import Any

import click

from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.plugin import DomainEvents

__all__ = ["plugin_of", "sound_plugin_of"]


def plugin_of(ctx: click.Context) -> DomainEvents:
    """Return the plugin, with all modules of the app imported, so that their tasks and declarations are there.

    Raises:
        click.ClickException: if the app has none, or a module of it can't be imported.
    """
    app: Any = ctx.obj.app
    try:
        app.loader.import_default_modules()
        return DomainEvents.of(app)
    except ImportError as error:
        raise click.ClickException(f"a module of the app can't be imported: {error}") from error
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error


def sound_plugin_of(ctx: click.Context) -> DomainEvents:
    """Return the plugin, for a command that needs all declarations to be right.

    Raises:
        click.ClickException: also with everything that is wrong with them.
    """
    plugin = plugin_of(ctx)
    try:
        problems = plugin.catalog.problems
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    if problems:
        raise click.ClickException(str(ConfigurationError(problems)))
    return plugin
