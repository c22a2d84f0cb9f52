"""With and without jsonschema-rs the same payloads pass, and the same are refused for the same reason."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from celery_tasker_events import values
from celery_tasker_events.errors import ConfigurationError, SchemaViolation
from celery_tasker_events.schema import PayloadValidator
from celery_tasker_events.schema_fast import quick_yes

NUMBERS = st.integers(-5, 5) | st.sampled_from([0.0, -0.0, 1.0, 1.5, 1e300, 2**53 + 1, 2**63 - 1])

PAYLOADS = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.sampled_from(["", "a", "é", "😀", "a" * 300]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)

TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
SIZES = st.integers(0, 3)

SCHEMAS = st.recursive(
    st.booleans() | st.fixed_dictionaries({}, optional={"type": TYPES | st.lists(TYPES, min_size=1, unique=True)}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES,
            "enum": st.lists(PAYLOADS, min_size=1, max_size=3),
            "const": PAYLOADS,
            "minimum": NUMBERS,
            "exclusiveMaximum": NUMBERS,
            "minLength": SIZES,
            "maxLength": SIZES,
            "minItems": SIZES,
            "uniqueItems": st.booleans(),
            "items": inner | st.lists(inner, min_size=1, max_size=2),
            "contains": inner,
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            "required": st.lists(st.sampled_from("abc"), unique=True),
            "additionalProperties": inner,
            "minProperties": SIZES,
            "propertyNames": inner,
            "dependencies": st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from("abc"), unique=True), max_size=2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "format": st.sampled_from(["date-time", "email", "nonsense"]),
        },
    ),
    max_leaves=6,
)


def verdict(validator: PayloadValidator, payload: Any) -> str | None:
    try:
        validator.check(payload)
    except SchemaViolation as violation:
        return str(violation)
    return None


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(schema=SCHEMAS, payload=PAYLOADS)
def test_the_verdict_does_not_depend_on_what_is_installed(schema: Any, payload: Any) -> None:
    assume(isinstance(schema, dict))
    validator = PayloadValidator(schema)
    # As the pipeline does: what is checked has been JSON before.
    payload = values.decode(values.encode(payload))

    with_it = verdict(validator, payload)
    assert validator._quick_yes is not None
    validator._quick_yes = None

    assert verdict(validator, payload) == with_it


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": "^a"}}},
        {"patternProperties": {"^a": True}},
        {"items": {"multipleOf": 0.1}},
        {"$schema": "http://json-schema.org/draft-03/schema#"},
    ],
)
def test_what_the_two_see_differently_is_left_to_jsonschema(schema: dict[str, Any]) -> None:
    assert PayloadValidator(schema)._quick_yes is None


def test_without_jsonschema_rs_jsonschema_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    validator = PayloadValidator({"type": "object"})

    assert validator._quick_yes is None
    validator.check({})
    with pytest.raises(SchemaViolation):
        validator.check([])


def test_a_schema_that_jsonschema_rs_does_not_take_is_left_to_jsonschema() -> None:
    assert quick_yes("Draft7Validator", {"type": 3}, {"type"}) is None


def test_an_invalid_schema_is_refused_as_ever() -> None:
    with pytest.raises(ConfigurationError):
        PayloadValidator({"type": 3})
