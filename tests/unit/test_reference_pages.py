"""The reference has every setting, every option of every command, and every public name, as the code has them."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

import celery_tasker_events
from celery_tasker_events import consumer
from celery_tasker_events.cli.celery_command import domain_events
from celery_tasker_events.cli.main import main
from celery_tasker_events.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
PAGES: dict[Path, str] = runpy.run_path(str(DOCS / "tables.py"))["pages"]()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_written_from_the_code_is_up_to_date(page: Path) -> None:
    assert page.read_text() == PAGES[page], "write it again: python -m docs.tables"


def test_each_setting_has_a_row_with_a_meaning() -> None:
    rows = [row.split(" | ") for row in (DOCS / "reference" / "settings.md").read_text().splitlines()]
    meanings = {row[0].strip("|` "): row[3] for row in rows if len(row) == 4}

    for field in fields(Settings):
        if field.name != "namespace_dsns":  # a part of dsn
            assert meanings[f"tasker_events_{field.name}"].strip("| ")


def leaves(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name in command.commands:
            yield from leaves(f"{path} {name}", command.commands[name])
    else:
        yield path.strip(), command


def test_each_option_of_each_command_has_a_row() -> None:
    sections = (DOCS / "reference" / "cli-options.md").read_text().split("\n## ")
    texts = dict(section.split("\n", 1) for section in sections)

    for group in (domain_events, main):
        for path, command in leaves("", group):
            for parameter in command.params:
                if isinstance(parameter, click.Option) and not parameter.hidden:
                    assert re.search(rf"^\| `(-\w, )?{parameter.opts[0]}[ `,]", texts[path], re.MULTILINE), parameter.opts


def test_the_command_line_page_explains_each_command() -> None:
    page = (DOCS / "reference" / "cli.md").read_text()
    overview = page.partition("\n## ")[0]

    for name in {*domain_events.commands, *main.commands}:
        assert f"`{name}" in overview, name
        assert f"\n## {name}\n" in page, name


@pytest.mark.parametrize("module", [celery_tasker_events, consumer])
def test_each_public_name_is_documented(module) -> None:
    page = (DOCS / "reference" / "python.md").read_text()
    documented = [line.split(":: ")[1] for line in page.splitlines() if line.startswith(".. auto")]

    assert set(module.__all__) <= set(documented)
    for name in module.__all__:
        assert getattr(module, name).__doc__


def test_each_part_of_the_house_has_its_purpose_told() -> None:
    page = (DOCS / "explanation" / "architecture.md").read_text()
    told = re.findall(r"`([\w/]+(?:\.py|/))`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)))
    parts = (DOCS.parent / "celery_tasker_events").iterdir()

    for part in parts:
        if not part.name.startswith("__") and part.name != "py.typed":
            assert told.count(part.name + "/" * part.is_dir()) == 1, part.name
