"""The table of a payload's fields has those that a schema has by way of others, too."""

from __future__ import annotations

from typing import Any

import pytest

from celery_tasker_events.contract.payload_fields import payload_fields

ID = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}


@pytest.mark.parametrize(
    "schema",
    [
        ID,
        {"allOf": [ID]},
        {"allOf": [{"$ref": "#/definitions/outer"}], "definitions": {"outer": {"allOf": [ID]}}},
        {"allOf": [{"properties": {"id": {"type": "string"}}}], "required": ["id"]},
    ],
    ids=["its own", "all of another", "of one that is all of another", "required beside it"],
)
def test_a_field_is_found_and_known_to_be_required(schema: dict[str, Any]) -> None:
    (field,) = payload_fields(schema)

    assert (field.name, field.type, field.is_required) == ("id", "string", True)


def test_fields_of_objects_in_lists_come_after_them() -> None:
    schema = {"type": "object", "properties": {"items": {"type": "array", "items": ID}}}

    assert [field.name for field in payload_fields(schema)] == ["items", "items[].id"]
