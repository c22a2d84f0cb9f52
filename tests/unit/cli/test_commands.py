"""The groups know their commands by name, and import each when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from celery_tasker_events.cli.celery_command import domain_events
from celery_tasker_events.cli.main import main


@pytest.mark.parametrize("group", [domain_events, main], ids=["with an app", "alone"])
def test_every_command_is_there_under_its_name(group: click.Group) -> None:
    context = click.Context(group)

    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        assert command.name == name


@pytest.mark.parametrize("group", [domain_events, main], ids=["with an app", "alone"])
def test_every_command_tells_its_result_as_json_if_asked(group: click.Group) -> None:
    commands = list(_commands_of(group))

    assert len(commands) > 10
    for command in commands:
        if command.name == "console":
            continue  # it serves pages, and has no result
        forms = [parameter.type for parameter in command.params if "--format" in parameter.opts]
        assert [isinstance(form, click.Choice) and "json" in form.choices for form in forms] == [True], command.name


def _commands_of(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands_of(command)
        elif command is not None:
            yield command


def test_what_celery_loads_with_every_command_of_its_own_imports_none_of_ours() -> None:
    script = (
        "import sys, celery_tasker_events.cli.celery_command;"
        "print(sorted(name for name in sys.modules if name.startswith('celery_tasker_events.c') and '.cli.' in name))"
    )

    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "['celery_tasker_events.cli.celery_command', 'celery_tasker_events.cli.commands']"
