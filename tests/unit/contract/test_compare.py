"""What is breaking: the table of the reference page is the specification."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from celery_tasker_events.contract.changes import Rule
from celery_tasker_events.contract.compare import compare, is_raised
from celery_tasker_events.contract.entry import CatalogEntry

from .making import PAYMENT, make_entry

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "contract.md").read_text()
ROWS = re.findall(r"^\| `([a-z-]+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)


def entries_of(cell: str) -> list[CatalogEntry]:
    """The declarations that a cell of the table stands for: by what is special about them."""
    entries = []
    for text in re.findall("`(.*?)`", cell):
        fields = {"schema": json.loads(text)} if text.startswith("{") else yaml.safe_load(text)
        entries.append(make_entry(**fields))
    return entries


@pytest.mark.parametrize(("label", "before", "after", "breaks", "because"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_of_the_table(label: str, before: str, after: str, breaks: str, because: str) -> None:
    [change] = compare(entries_of(before), entries_of(after))

    assert change.rule.label == label
    assert sorted(affected.value for affected in change.affects) == ([] if breaks == "-" else breaks.split(", "))
    assert change.rule.reason == because


def test_the_table_has_every_kind_of_change() -> None:
    assert [row[0] for row in ROWS] == [rule.label for rule in Rule]


def test_nothing_has_changed_between_a_contract_and_itself_in_another_order() -> None:
    entries = [make_entry(), make_entry("a.b", schema=None), make_entry(step="other"), make_entry(condition="failure")]

    assert compare(entries, reversed(entries)) == []


def test_a_change_inside_is_told_with_its_place() -> None:
    def with_price(kind: str) -> list[CatalogEntry]:
        item = {"type": "object", "properties": {"price": {"type": kind}}}
        return [
            make_entry(
                schema={
                    "properties": {"items": {"type": "array", "items": {"$ref": "#/definitions/Item"}}},
                    "definitions": {"Item": item},
                }
            )
        ]

    [change] = compare(with_price("integer"), with_price("number"))

    assert (change.rule, change.place, change.old, change.new) == (Rule.TYPE_WIDENED, "items[].price", "integer", "number")


def test_the_same_change_in_two_fields_is_told_twice_and_in_two_steps_once() -> None:
    def with_two(kind: str) -> dict[str, Any]:
        return {"properties": {"a": {"type": kind}, "b": {"type": kind}}}

    old = [make_entry(schema=with_two("string")), make_entry(step="other", schema=with_two("string"))]
    new = [make_entry(schema=with_two("integer")), make_entry(step="other", schema=with_two("integer"))]

    assert [change.place for change in compare(old, new)] == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "new", "accepted"),
    [
        ({}, {"version": "2.0"}, True),
        ({}, {"version": "1.1"}, False),
        ({"version": "2.0"}, {"version": "1.0"}, False),
        ({"version": "v1"}, {"version": "v2"}, True),
        ({"version": "1.0"}, {"version": "10"}, True),
        ({"version": "stable"}, {"version": "2.0"}, False),
        ({}, {"template_version": "2.0.0"}, True),
        ({}, {"template_version": "1.1.0"}, False),
        ({}, {"template_version": "2.0.0", "template": "payments/other"}, False),
    ],
)
def test_a_breaking_change_is_accepted_where_the_major_version_is_raised(old: Any, new: Any, accepted: bool) -> None:
    changes = compare([make_entry(**old)], [make_entry(**new, condition="always")])

    assert {change.is_accepted for change in changes if change.rule is Rule.CONDITION_CHANGED} == {accepted}


def test_an_event_that_is_gone_is_accepted_by_name_or_by_its_templates_version() -> None:
    old, kept = [make_entry("a.gone"), make_entry()], make_entry(template_version="2.0.0")

    assert [change.is_accepted for change in compare(old, [make_entry()])] == [False]
    assert [change.is_accepted for change in compare(old, [make_entry()], accepted=["a.gone"])] == [True]
    assert [change.is_accepted for change in compare(old, [kept])] == [True]


def test_the_raised_version_of_one_event_does_not_accept_the_change_of_another() -> None:
    old = [make_entry("a.a"), make_entry("a.b")]
    new = [make_entry("a.a", version="2.0", schema=None), make_entry("a.b", schema=None)]

    found = {(change.event, change.is_accepted) for change in compare(old, new) if change.rule is Rule.SCHEMA_REMOVED}
    assert found == {("a.a", True), ("a.b", False)}


def test_a_second_step_that_publishes_another_payload_breaks_consumers_only() -> None:
    other = {
        **PAYMENT,
        "required": ["amount"],
        "properties": {**PAYMENT["properties"], "amount": {"type": "integer", "minimum": 0}},
    }

    changes = compare([make_entry()], [make_entry(), make_entry(step="other", schema=other)])

    assert [change.rule for change in changes] == [Rule.PUBLISHED_ELSEWHERE_TOO, Rule.REQUIRED_REMOVED]


def test_templates_without_an_app_are_the_same_contract_as_the_app_with_them() -> None:
    assert compare([make_entry()], [make_entry(task=None)]) == []


@pytest.mark.parametrize(
    ("old", "new", "raised"), [("1.9", "2.0", True), ("2", "2.1", False), (None, "2", False), ("9", "10", True)]
)
def test_only_the_major_part_raises_a_version(old: str | None, new: str, raised: bool) -> None:
    assert is_raised(old, new) is raised
