"""No payload is broken silently: whatever only one of two schemas accepts is told, to those whom it breaks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_tasker_events.contract.changes import Affected, Rule
from celery_tasker_events.contract.compare_schemas import compare_schemas

LEAF_VALUES = [None, True, 0, 1, 6, 0.5, "x", "xxxx", "date", [], [0], ["x", 1]]
VALUES = [
    *LEAF_VALUES,
    {},
    *({"a": value} for value in LEAF_VALUES),
    *({"b": {"a": value}} for value in [*LEAF_VALUES, {}]),
    *({"a": a, "b": b} for a, b in itertools.product([0, "x", None, 0.5], [1, "xxxx", {}, {"a": 0}, [0]])),
]

LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["string", "integer", "number", "null", "array", "object", ["string", "null"], ["integer", "array"]]
        ),
        "enum": st.lists(st.sampled_from([0, 1, "x", None]), min_size=1, max_size=2),
        "const": st.sampled_from([0, "x"]),
        "minimum": st.integers(0, 2),
        "exclusiveMaximum": st.integers(0, 7),
        "maxLength": st.integers(0, 4),
        "minLength": st.integers(0, 2),
        "pattern": st.sampled_from(["x", "^d"]),
        "minItems": st.integers(0, 2),
        "uniqueItems": st.booleans(),
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        "title": st.just("t"),
    },
)


def _around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    inner_or_boolean = inner | st.booleans()
    objects = st.fixed_dictionaries(
        {"properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2)},
        optional={
            "type": st.just("object"),
            "required": st.lists(st.sampled_from("ab"), unique=True),
            "additionalProperties": inner_or_boolean,
        },
    )
    arrays = st.fixed_dictionaries({"items": inner_or_boolean | st.lists(inner, max_size=2)})
    choices = st.builds(
        lambda keyword, schemas: {keyword: schemas},
        st.sampled_from(["anyOf", "oneOf", "allOf"]),
        st.lists(inner, min_size=1, max_size=2),
    )
    nullable = st.builds(lambda schema: {"anyOf": [schema, {"type": "null"}], "default": None}, inner)
    return objects | objects | arrays | choices | nullable


PLAIN = st.recursive(LEAVES, _around, max_leaves=5)
LINKS = st.just({"$ref": "#/definitions/x"})
LINKED = st.builds(
    lambda schema, definition: {**schema, "definitions": {"x": definition}},
    st.recursive(LEAVES | LINKS, _around, max_leaves=4).filter(lambda schema: "$ref" not in schema),
    PLAIN,
)
SCHEMAS = PLAIN | LINKED


def _changed(draw: st.DrawFn, schema: Any) -> Any:
    if not isinstance(schema, dict) or not schema or draw(st.integers(0, 3)) == 0:
        return draw(PLAIN)
    keyword = draw(st.sampled_from(sorted(schema)))
    if keyword == "properties" and schema[keyword]:
        name = draw(st.sampled_from(sorted(schema[keyword])))
        return {**schema, keyword: {**schema[keyword], name: _changed(draw, schema[keyword][name])}}
    if draw(st.booleans()):
        return {key: value for key, value in schema.items() if key != keyword}
    return {**draw(LEAVES), **schema}


def undeclared(schema: Any, value: Any) -> bool:
    """Whether the value has a field that the schema, as an object that is open to others, does not declare."""
    if not isinstance(value, dict) or not isinstance(schema, dict):
        return False
    fields = schema.get("properties", {})
    return any(name not in fields or undeclared(fields[name], inner) for name, inner in value.items())


def accepted_by(schema: Any) -> Iterator[bool]:
    validator = jsonschema.Draft7Validator(schema)
    return (validator.is_valid(value) for value in VALUES)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """Two schemas, often with most in common."""
    old = draw(SCHEMAS)
    new = _changed(draw, old) if draw(st.booleans()) else draw(SCHEMAS)
    # What one of them refers to is there in each.
    definitions = {"definitions": {"x": draw(PLAIN)}}
    return {**definitions, **old}, {**definitions, **new}


@settings(max_examples=500)
@given(pairs())
def test_a_payload_that_only_one_schema_accepts_is_told_to_those_whom_it_breaks(pair: tuple[Any, Any]) -> None:
    old, new = pair
    affected = {affected for change in compare_schemas(old, new) for affected in change.rule.affects}

    for value, before, after in zip(VALUES, accepted_by(old), accepted_by(new), strict=True):
        if after and not before:
            assert Affected.CONSUMERS in affected, value
        if before and not after and not undeclared(old, value):
            assert Affected.PUBLISHERS in affected, value


@given(SCHEMAS)
def test_a_schema_is_no_change_of_itself(schema: Any) -> None:
    assert compare_schemas(schema, {**schema, "title": "other", "description": "other"}) == []


def test_a_schema_that_refers_to_itself_is_compared_to_the_end() -> None:
    def tree(kind: str) -> dict[str, Any]:
        return {"type": "object", "properties": {"value": {"type": kind}, "children": {"type": "array", "items": {"$ref": "#"}}}}

    [change] = compare_schemas(tree("integer"), tree("string"))

    assert (change.rule, change.place) == (Rule.TYPE_CHANGED, "value")


def test_a_definition_that_changed_is_found_where_it_is_used_in_what_looks_the_same() -> None:
    def choice(kind: str) -> dict[str, Any]:
        return {"oneOf": [{"$ref": "#/definitions/x"}, {"type": "array"}], "definitions": {"x": {"type": kind}}}

    assert [change.rule for change in compare_schemas(choice("integer"), choice("string"))] == [Rule.UNCLEAR]


def test_what_refers_to_itself_in_a_keyword_that_is_not_understood_is_compared_to_the_end() -> None:
    def chain(kind: str) -> dict[str, Any]:
        return {"oneOf": [{"properties": {"next": {"$ref": "#"}, "value": {"type": kind}}}, {"type": "null"}]}

    assert compare_schemas(chain("integer"), chain("integer")) == []
    assert [change.rule for change in compare_schemas(chain("integer"), chain("string"))] == [Rule.UNCLEAR]


@pytest.mark.parametrize("keyword", ["oneOf", "patternProperties", "if", "dependencies", "x-unknown"])
def test_what_is_not_understood_is_taken_for_the_worst(keyword: str) -> None:
    [change] = compare_schemas({keyword: {}}, {keyword: {"a": {}}})

    assert change.rule is Rule.UNCLEAR
