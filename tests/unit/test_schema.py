"""Payload validation: bad schemas are told when the app starts, bad payloads with place and rule."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events.errors import ConfigurationError, SchemaViolation
from celery_tasker_events.schema import PayloadValidator

ORDER = {
    "type": "object",
    "required": ["amount"],
    "properties": {
        "amount": {"type": "number", "minimum": 0},
        "items": {"type": "array", "items": {"$ref": "#/definitions/item"}},
    },
    "definitions": {"item": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}},
}


def test_a_payload_that_matches_passes() -> None:
    PayloadValidator(ORDER).check({"amount": 1, "items": [{"sku": "a"}]})


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "payload: 'amount' is a required property"),
        ([], "payload: [] is not of type 'object'"),
        ({"amount": "1"}, "payload/amount: '1' is not of type 'number'"),
        ({"amount": -1}, "payload/amount: -1 is less than the minimum of 0"),
        ({"amount": 1, "items": [{"sku": "a"}, {"sku": 2}]}, "payload/items/1/sku: 2 is not of type 'string'"),
    ],
)
def test_a_violation_names_the_place_and_the_rule(payload: Any, message: str) -> None:
    with pytest.raises(SchemaViolation) as caught:
        PayloadValidator(ORDER).check(payload)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "strin"}, "invalid JSON Schema at type: 'strin'"),
        ({"properties": {"a": {"minimum": "0"}}}, "invalid JSON Schema at properties/a/minimum: '0'"),
        ({"required": "amount"}, "invalid JSON Schema at required"),
        ({"pattern": "["}, "invalid JSON Schema at pattern"),
        ({"properties": {"a": 3}}, "invalid JSON Schema at properties/a"),
        ({"properties": {True: {"type": "string"}}}, "has the key True, which is no string: quote it"),
        ({"$schema": "http://example.com/my-own"}, "unknown $schema 'http://example.com/my-own'"),
        ({"$schema": 7}, "unknown $schema 7"),
    ],
)
def test_an_invalid_schema_is_refused_with_the_place(schema: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PayloadValidator(schema)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/order.json"},
        {"properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}},
        {"items": [{"$ref": "file:///etc/passwd"}]},
        {"allOf": [{"$ref": "order.json"}]},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "items": {"$dynamicRef": "https://example.com/x"}},
    ],
)
def test_a_reference_to_something_outside_is_refused_and_never_fetched(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match="only references within it"):
        PayloadValidator(schema)


def test_an_inner_id_does_not_make_a_reference_reach_outside() -> None:
    validator = PayloadValidator(
        {
            "properties": {
                "a": {"$id": "https://example.com/a", "allOf": [{"$ref": "#/definitions/b"}], "definitions": {"b": False}}
            }
        }
    )

    with pytest.raises(SchemaViolation, match="payload/a: False schema does not allow 1"):
        validator.check({"a": 1})


@pytest.mark.parametrize("reference", ["#/definitions/itme", "#nowhere"])
def test_a_reference_that_leads_nowhere_is_refused(reference: str) -> None:
    with pytest.raises(ConfigurationError, match="which it does not have"):
        PayloadValidator({"items": {"$ref": reference}, "definitions": {"item": {}}})


def test_a_schema_may_refer_to_itself() -> None:
    tree = PayloadValidator({"properties": {"child": {"$ref": "#"}, "name": {"type": "string"}}})

    tree.check({"child": {"child": {"name": "leaf"}}})
    with pytest.raises(SchemaViolation, match="payload/child/child/name"):
        tree.check({"child": {"child": {"name": 1}}})


def test_a_schema_is_draft_7_unless_it_says_otherwise() -> None:
    tuple_items = {"items": [{"type": "string"}]}

    with pytest.raises(SchemaViolation, match="payload/0"):
        PayloadValidator(tuple_items).check([1])
    with pytest.raises(ConfigurationError, match="invalid JSON Schema at items"):
        PayloadValidator({"$schema": "https://json-schema.org/draft/2020-12/schema", **tuple_items})


CATASTROPHIC = r"^(a|aa)+$"


@pytest.mark.parametrize(
    ("schema", "payload"),
    [({"pattern": CATASTROPHIC}, "a" * 60 + "b"), ({"patternProperties": {CATASTROPHIC: True}}, {"a" * 60 + "b": 1})],
)
def test_a_pattern_that_takes_for_ever_is_a_violation(schema: Any, payload: Any) -> None:
    with pytest.raises(SchemaViolation, match=r"took longer than 0\.1 s"):
        PayloadValidator(schema).check(payload)


@pytest.mark.parametrize("pattern", [r"^TXN-\d+$", r"\w", "^\u00e9", r"a(?=b)", "", r"^[a-z0-9_]+(\.[a-z0-9_]+)+$"])
@given(text=st.text(st.characters(codec="ascii") | st.just("\u00e9")))
def test_patterns_mean_what_they_mean_to_python(pattern: str, text: str) -> None:
    validator = PayloadValidator({"pattern": pattern})

    if re.search(pattern, text):
        validator.check(text)
    else:
        with pytest.raises(SchemaViolation, match="does not match"):
            validator.check(text)


def test_pattern_properties_check_the_values_of_the_keys_that_match() -> None:
    validator = PayloadValidator({"patternProperties": {"^n_": {"type": "number"}}})

    validator.check({"n_a": 1, "other": "text"})
    with pytest.raises(SchemaViolation, match="payload/n_b: 'text' is not of type 'number'"):
        validator.check({"n_b": "text"})
