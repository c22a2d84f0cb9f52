"""The declared events that a command is about: those of the app, or without one those of task templates."""

from __future__ import annotations

import glob
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from celery_tasker_events.cli.app import sound_plugin_of
from celery_tasker_events.cli.checking import Report, check_files, entries_of
from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.errors import ConfigurationError

__all__ = ["as_pattern", "declared_entries", "files_report"]


def declared_entries(ctx: click.Context, files: Sequence[str], environment: str | None) -> list[CatalogEntry]:
    """Return the events of the command's app, or without an app those of the templates.

    Raises:
        click.ClickException: with everything that is wrong with them.
    """
    if ctx.obj is None:
        if not files:
            raise click.UsageError("no task template: give files or patterns, such as 'config/tasks/**/*.yaml'")
        report = files_report([as_pattern(file) for file in files], environment)
        if report.errors:
            raise click.ClickException(str(ConfigurationError(report.errors)))
        return report.entries()
    if files or environment is not None:
        raise click.UsageError("with an app its own templates count: for files use the program celery-tasker-events")
    catalog = sound_plugin_of(ctx).catalog
    for problem in catalog.unbound:
        click.echo(f"{problem} Its events are left out.", err=True)
    return list(entries_of(catalog))


def files_report(patterns: Sequence[str], environment: str | None) -> Report:
    """Check templates by themselves."""
    # A program's own folder is first on Python's path, not where it is called from, which Celery adds too.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return check_files(patterns, environment)


def as_pattern(file: str) -> str:
    """Return a glob pattern for what was given: a file that is there, whatever its name, or a pattern already."""
    return glob.escape(file) if Path(file).exists() else file
