"""CHANGELOG.md keeps the shape of Keep a Changelog: versions from new to old, changes under the headings that it knows."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()

KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_versions_come_from_new_to_old_below_what_is_unreleased() -> None:
    first, *released = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    found = [re.fullmatch(r"(\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)", heading) for heading in released]

    assert first == "Unreleased"
    assert all(found), released
    numbers = [tuple(map(int, match[1].split("."))) for match in found if match]
    dates = [datetime.date.fromisoformat(match[2]) for match in found if match]
    assert numbers == sorted(set(numbers), reverse=True)
    assert dates == sorted(dates, reverse=True)


def test_changes_stand_under_headings_that_everybody_knows_once_a_version() -> None:
    for version in re.split(r"^## .+$", TEXT, flags=re.MULTILINE)[1:]:
        before, *sections = re.split(r"^### (.+)$", version, flags=re.MULTILINE)
        headings, contents = sections[::2], sections[1::2]

        assert before.strip() == ""
        assert set(headings) <= KINDS
        assert len(headings) == len(set(headings))
        for content in contents:
            assert re.fullmatch(r"\n+(- .+\n(  .+\n)*)+\n*", content), content[:200]
