"""Examples are valid, or there is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events.contract.examples import examples_of
from celery_tasker_events.schema import PayloadValidator

from .making import LINKED, PAYMENT

NUMBERS = st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "number"])},
    optional={
        "minimum": st.integers(-5, 5),
        "maximum": st.integers(-5, 5),
        "exclusiveMinimum": st.integers(-5, 5),
        "exclusiveMaximum": st.integers(-5, 5),
        "multipleOf": st.integers(1, 4),
    },
)
STRINGS = st.fixed_dictionaries(
    {"type": st.just("string")},
    optional={
        "minLength": st.integers(0, 8),
        "maxLength": st.integers(0, 8),
        "pattern": st.sampled_from(["^x", "t$"]),
        "format": st.sampled_from(["date", "uuid", "unknown"]),
    },
)
LEAVES = (
    NUMBERS | STRINGS | st.builds(dict) | st.booleans() | st.fixed_dictionaries({"enum": st.lists(st.integers(), min_size=1)})
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    objects = st.fixed_dictionaries(
        {"type": st.just("object"), "properties": named, "required": st.lists(st.sampled_from("abcd"), unique=True)},
        optional={"additionalProperties": st.booleans() | inner},
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array"), "items": inner | st.lists(inner, max_size=2)},
        optional={"minItems": st.integers(0, 3), "maxItems": st.integers(0, 3), "uniqueItems": st.booleans()},
    )
    choices = st.builds(
        lambda keyword, list_of: {keyword: list_of},
        st.sampled_from(["anyOf", "oneOf", "allOf"]),
        st.lists(inner, min_size=1, max_size=2),
    )
    return objects | arrays | choices | st.builds(lambda schema: {"not": schema}, inner)


SCHEMAS = st.recursive(LEAVES, _nested, max_leaves=8).filter(lambda schema: isinstance(schema, dict))


@given(SCHEMAS)
def test_an_example_is_valid_by_its_schema(schema: Any) -> None:
    for example in examples_of(schema):
        PayloadValidator(schema).check(example)


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        (PAYMENT, {"transaction_id": "text", "amount": 0}),
        (
            LINKED,
            {"money": {"cents": 1}, "other": {"cents": 1}, "odd": {"$ref": "#/definitions/none"}, "$ref": "text", "children": []},
        ),
        ({"type": "string", "format": "date-time"}, "2026-01-01T10:00:00Z"),
        ({"type": ["null", "integer"], "exclusiveMinimum": 4, "multipleOf": 5}, 5),
        ({"type": "number", "exclusiveMaximum": 0}, -1),
        ({"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"const": 7}}}]}, {"a": 7}),
        ({"anyOf": [{"type": "array", "minItems": 2, "items": {"type": "boolean"}}, {"type": "null"}]}, [True, True]),
    ],
)
def test_common_schemas_have_one(schema: Any, example: Any) -> None:
    found = examples_of(schema)

    assert found == [example] or (schema is LINKED and found[0]["money"] == {"cents": 1})


def test_the_schemas_own_examples_come_first_and_those_that_are_wrong_are_left_out() -> None:
    assert examples_of({**PAYMENT, "examples": [{"transaction_id": "TXN-1", "amount": 5}, {"amount": 5}]}) == [
        {"transaction_id": "TXN-1", "amount": 5}
    ]


@pytest.mark.parametrize("schema", [{"type": "string", "pattern": "^[0-9]{7}$"}, {"$ref": "#"}, {"not": {}}])
def test_what_is_too_intricate_has_none(schema: Any) -> None:
    assert examples_of(schema) == []
