"""Example payloads of a JSON Schema: its own ``examples``, else one that is made up from the common keywords.

What is made up is checked; a schema whose rules are too intricate has no example rather than a wrong one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from celery_tasker_events.contract.flattening import flattened
from celery_tasker_events.errors import ConfigurationError, SchemaViolation
from celery_tasker_events.schema import PayloadValidator

__all__ = ["examples_of"]

#: How deep optional fields are filled in, and how deep an example may be at all.
_OPTIONAL_DEPTH = 4
_MAX_DEPTH = 20

_BY_FORMAT = {
    "date-time": "2026-01-01T10:00:00Z",
    "date": "2026-01-01",
    "time": "10:00:00Z",
    "duration": "PT1M",
    "uuid": "01a21051-d0c5-74de-8a1d-f15b5077aec8",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


def examples_of(schema: Mapping[str, Any]) -> list[Any]:
    """Return valid payloads, the same every time; none if the schema has none and none can be made up."""
    try:
        validator = PayloadValidator(schema)
    except ConfigurationError:
        return []
    given = schema.get("examples")
    if isinstance(given, list) and (valid := [example for example in given if _is_valid(validator, example)]):
        return valid
    candidates = (_candidate(schema, depth) for depth in (_OPTIONAL_DEPTH, 0))
    return list(itertools.islice((found[0] for found in candidates if found and _is_valid(validator, found[0])), 1))


def _is_valid(validator: PayloadValidator, payload: Any) -> bool:
    try:
        validator.check(payload)
    except SchemaViolation:
        return False
    return True


def _candidate(schema: Mapping[str, Any], optional_depth: int) -> list[Any]:
    try:
        return [_Maker(schema, optional_depth).value(schema, 0)]
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return []


class _Maker:
    """Makes one value; whatever it can't make out raises one of the built-in exceptions."""

    def __init__(self, root: Mapping[str, Any], optional_depth: int) -> None:
        self._root = root
        self._optional_depth = optional_depth

    def value(self, schema: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("it is too deep")
        if not isinstance(schema, Mapping):
            return "text"
        schema = flattened(self._root, schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        if schema.get("examples"):
            return schema["examples"][0]
        for keyword in ("anyOf", "oneOf"):
            if schema.get(keyword):
                rest = {key: value for key, value in schema.items() if key != keyword}
                return self.value({"allOf": [rest, schema[keyword][0]]}, depth + 1)
        return getattr(self, f"_{_type_of(schema)}")(schema, depth)

    def _object(self, schema: Mapping[str, Any], depth: int) -> Any:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        wanted = [
            name for name in properties if name in required or (depth < self._optional_depth and properties[name] is not False)
        ]
        wanted += [name for name in required if name not in properties]
        other = schema.get("additionalProperties", {})
        return {name: self.value(properties.get(name, other), depth + 1) for name in wanted}

    def _array(self, schema: Mapping[str, Any], depth: int) -> Any:
        items = schema.get("items", {})
        first = schema.get("prefixItems", items if isinstance(items, list) else [])
        rest = schema.get("additionalItems", {}) if isinstance(items, list) else items
        least = schema.get("minItems", 0)
        length = max(least, len(first) or (1 if depth < self._optional_depth and rest is not False else 0))
        length = min(length, schema.get("maxItems", length))
        return [self.value(first[index] if index < len(first) else rest, depth + 1) for index in range(length)]

    def _string(self, schema: Mapping[str, Any], depth: int) -> Any:
        text = _BY_FORMAT.get(schema.get("format", ""), "text")
        return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]

    def _integer(self, schema: Mapping[str, Any], depth: int) -> Any:
        return int(self._number({**schema, "multipleOf": schema.get("multipleOf", 1)}, depth))

    def _number(self, schema: Mapping[str, Any], depth: int) -> Any:
        step = schema.get("multipleOf") or 1
        low, high = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        # Draft 4 has flags here.
        above = low if above is True else None if above is False else above
        below = high if below is True else None if below is False else below
        if low is None and above is None and (high is not None or below is not None):
            most = min(limit for limit in (high, below) if limit is not None)
            number = math.floor(most / step) * step
            return number - step if number == below else number
        least = max((limit for limit in (low, above) if limit is not None), default=step)
        number = math.ceil(least / step) * step
        return number + step if number == above else number

    def _boolean(self, schema: Mapping[str, Any], depth: int) -> Any:
        return True

    def _null(self, schema: Mapping[str, Any], depth: int) -> Any:
        return None


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind is not None:
        return str(kind)
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema else "string"
