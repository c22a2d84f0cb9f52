"""``types``: typed Python for the payloads of the declared events."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from celery_tasker_events.cli.declared import declared_entries
from celery_tasker_events.cli.writing import format_option, write
from celery_tasker_events.contract.python_types import python_types

__all__ = ["types"]


@click.command(name="types")
@click.option("--pydantic", is_flag=True, help="Write pydantic models in place of TypedDicts.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.option("--environment", help="Whose overrides of the templates count, without an app.")
@format_option
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.pass_context
def types(
    ctx: click.Context, pydantic: bool, output: Path | None, environment: str | None, form: str, files: tuple[str, ...]
) -> None:
    """Write a Python module with a type for the payload of each event.

    Without an app it is about the task templates FILE...
    """
    entries = declared_entries(ctx, files, environment)
    program = ["celery-tasker-events"] if ctx.obj is None else ["celery", "-A", ctx.obj.app.main or "<app>", "domain-events"]
    options = [*(["--pydantic"] if pydantic else []), *(["--environment", environment] if environment else [])]
    target = ["--output", output.name] if output else []
    module = python_types(entries, shlex.join([*program, "types", *options, *target, *files]), pydantic=pydantic)
    if output is not None or form == "text":
        write(module, output)
    if form == "json":
        click.echo(json.dumps({"pydantic": pydantic, "output": output and str(output), "module": module}))
