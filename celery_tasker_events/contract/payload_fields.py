"""The fields of a payload, as rows of a table for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from celery_tasker_events.contract.flattening import flattened

__all__ = ["PayloadField", "payload_fields"]

_MAX_DEPTH = 6

#: Keywords that are told beside the type, in this order.
_RULES = (
    *("format", "pattern", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
)


class PayloadField(NamedTuple):
    """One field: ``items[].price`` is a field of each element of a list."""

    name: str
    type: str
    is_required: bool
    rules: str
    description: str


def payload_fields(schema: Mapping[str, Any]) -> list[PayloadField]:
    """Return the fields of an object, those of objects inside of it after it; none for what is no object."""
    return list(_fields(schema, schema, "", 0))


def _fields(root: Mapping[str, Any], schema: Any, prefix: str, depth: int) -> Iterator[PayloadField]:
    if depth > _MAX_DEPTH:
        return
    schema = _followed(root, schema)
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, Mapping) else ():
        inner = _followed(root, inner)
        required = name in (schema.get("required") or ())
        place = f"{prefix}{name}"
        yield PayloadField(place, _type(root, inner), required, _rules(inner), str(inner.get("description", "")))
        yield from _fields(root, inner, f"{place}.", depth + 1)
        yield from _fields(root, inner.get("items"), f"{place}[].", depth + 1)


def _followed(root: Mapping[str, Any], schema: Any) -> Mapping[str, Any]:
    try:
        return flattened(root, schema) if isinstance(schema, Mapping) else {}
    except (LookupError, ValueError):
        return {}


def _type(root: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return json.dumps(schema["const"])
    if isinstance(schema.get("enum"), list):
        return " or ".join(json.dumps(value) for value in schema["enum"])
    for keyword in ("anyOf", "oneOf"):
        if isinstance(schema.get(keyword), list):
            return " or ".join(dict.fromkeys(_type(root, _followed(root, choice)) for choice in schema[keyword]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(map(str, kind))
    if kind == "array" and isinstance(schema.get("items"), Mapping):
        return f"array of {_type(root, _followed(root, schema['items']))}"
    return str(kind) if kind else "any"


def _rules(schema: Mapping[str, Any]) -> str:
    return ", ".join(f"{keyword} {json.dumps(schema[keyword])}" for keyword in _RULES if keyword in schema)
