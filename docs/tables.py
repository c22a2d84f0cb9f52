"""Writes what the code knows into the reference pages: ``python -m docs.tables``. A test fails where a page is behind."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from celery_tasker_events import settings
from celery_tasker_events.cli.celery_command import domain_events
from celery_tasker_events.cli.main import main

REFERENCE = Path(__file__).parent / "reference"
PROGRAMS = {"celery -A <app> domain-events": domain_events, "celery-tasker-events": main}


def pages() -> dict[Path, str]:
    """The text that each page with something generated ought to have."""
    page = REFERENCE / "settings.md"
    table = re.compile(r"(?<=<!-- settings -->\n).*?(?=\n<!-- end -->)", re.DOTALL)
    return {page: table.sub(settings_table().replace("\\", r"\\"), page.read_text()), REFERENCE / "cli-options.md": options()}


def settings_table() -> str:
    """One row for each setting; what it means says the docstring of the class."""
    attributes = inspect.cleandoc(settings.Settings.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", attributes, re.MULTILINE)
    meanings = {name: " ".join(text.split()).replace("``", "`") for name, text in found}
    rows = ["| key | allowed | default | meaning |", "| --- | --- | --- | --- |"]
    for field in fields(settings.Settings):
        if check := settings._CHECKS.get(field.name):
            default = f'"{field.default}"' if isinstance(field.default, str) else repr(field.default).replace("()", "[]")
            rows.append(f"| `{settings.PREFIX}{field.name}` | {_allowed(check)} | `{default}` | {meanings[field.name]} |")
    return "\n".join(rows)


def _allowed(check: Callable[[Any], str | None]) -> str:
    # What a check says against a value that is no good anywhere is what would be good.
    allowed = re.sub(r"^(must be|bad namespace Ellipsis:) |, not .*", "", check(...) or "")
    return re.sub(r"\d{4,}", lambda number: f"{int(number[0]):,}", allowed)


def options() -> str:
    """A page with the usage and all options of each command."""
    head = [
        "# Options of all commands",
        "What `--help` tells, written by `python -m docs.tables`. [Command line](cli.md) explains what the commands do.",
    ]
    names = sorted({name for group in PROGRAMS.values() for name in group.commands})
    return "\n\n".join([*head, *(section for name in names for section in _sections(name))]) + "\n"


def _sections(name: str) -> Iterator[str]:
    having = {program: group.commands[name] for program, group in PROGRAMS.items() if name in group.commands}
    command = next(iter(having.values()))
    for path, one in _leaves(name, command):
        context = click.Context(one)
        usage = [f"{program} {path} {' '.join(one.collect_usage_pieces(context))}" for program in having]
        told = [record for parameter in one.params if (record := parameter.get_help_record(context))]
        rows = [f"| `{_cell(option)}` | {_cell(meaning)} |" for option, meaning in told if option.startswith("-")]
        table = ["| option | meaning |", "| --- | --- |", *rows] if rows else []
        yield "\n".join([f"## {path}", "", "```", *usage, "```", "", inspect.cleandoc(one.help or ""), "", *table]).rstrip()


def _leaves(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            yield from _leaves(f"{path} {name}", child)
    else:
        yield path, command


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<=", "≤").replace(">=", "≥")


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text)
