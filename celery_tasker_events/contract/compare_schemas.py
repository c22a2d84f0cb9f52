"""What changed between two JSON Schemas of a payload, and whom it breaks.

The principle: a payload that only the old schema accepts breaks publishers, one that only the new schema accepts breaks
consumers. There is one exception, which every evolving contract needs: a new optional field of an object that was open to
other fields is safe, though a payload might have had a field of that name by chance.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from celery_tasker_events.contract.changes import Rule, SchemaChange
from celery_tasker_events.contract.subschemas import resolve, with_subschemas

__all__ = ["compare_schemas"]

_TYPES = ("null", "boolean", "object", "array", "string", "integer", "fraction")

#: What changes no payload.
_REMARKS = frozenset(
    {
        *("$schema", "$id", "id", "$comment", "$defs", "definitions", "$anchor", "title", "description", "default", "examples"),
        *("deprecated", "readOnly", "writeOnly", "contentMediaType", "contentEncoding"),
    }
)
#: Limits, and whether a greater number accepts more values.
_LIMITS = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), False),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), True),
}
#: What is compared keyword by keyword below; any other keyword is unclear where it changed.
_COMPARED = frozenset(
    {
        "$ref",
        "type",
        "enum",
        "const",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "format",
        "pattern",
        "multipleOf",
    }
    | {"uniqueItems", *_LIMITS}
)
_NOTHING: Mapping[str, Any] = {"not": {}}


def compare_schemas(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[SchemaChange]:
    """Return what changed, in the order of the fields; nothing if every payload fares as before.

    Args:
        old: A valid schema, of any draft.
        new: Another one.
    """
    return list(_Comparison(old, new).changes(old, new, ""))


class _Comparison:
    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._old_root = old
        self._new_root = new
        self._being_compared: set[tuple[str, str]] = set()

    def changes(self, old: Any, new: Any, place: str) -> Iterator[SchemaChange]:
        old, new = _followed(self._old_root, old), _followed(self._new_root, new)
        pair = (_canonical(old), _canonical(new))
        if pair in self._being_compared:  # they refer to themselves
            return
        self._being_compared.add(pair)
        yield from _types(old, new, place)
        yield from _values(old, new, place)
        yield from _limits(old, new, place)
        yield from self._fields(old, new, place)
        yield from self._items(old, new, place)
        yield from self._others(old, new, place)
        self._being_compared.remove(pair)

    def _fields(self, old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[SchemaChange]:
        old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
        old_rest, new_rest = old.get("additionalProperties", True), new.get("additionalProperties", True)
        for name in sorted(old_fields.keys() | new_fields.keys()):
            inner = f"{place}.{name}" if place else name
            if name not in old_fields:
                yield from self._added(old_rest, new_fields[name], inner)
            elif name not in new_fields:
                yield SchemaChange(Rule.FIELD_REMOVED_FROM_CLOSED if new_rest is False else Rule.FIELD_REMOVED, inner)
                if isinstance(new_rest, Mapping) and new_rest:
                    yield from self.changes(old_fields[name], new_rest, inner)
            else:
                yield from self.changes(old_fields[name], new_fields[name], inner)
        old_required, new_required = _required(old), _required(new)
        for name in sorted(new_required - old_required):
            yield SchemaChange(Rule.REQUIRED_ADDED, f"{place}.{name}" if place else name)
        for name in sorted(old_required - new_required):
            if name in new_fields or name not in old_fields:
                yield SchemaChange(Rule.REQUIRED_REMOVED, f"{place}.{name}" if place else name)
        yield from self._rest(old_rest, new_rest, place)

    def _added(self, old_rest: Any, new: Any, place: str) -> Iterator[SchemaChange]:
        yield SchemaChange(Rule.FIELD_ADDED_TO_CLOSED if old_rest is False else Rule.FIELD_ADDED, place)
        if isinstance(old_rest, Mapping) and old_rest:
            yield from self.changes(old_rest, new, place)

    def _rest(self, old: Any, new: Any, place: str) -> Iterator[SchemaChange]:
        if (old is False) != (new is False):
            yield SchemaChange(Rule.CLOSED if new is False else Rule.OPENED, place)
        elif old is not False:
            yield from self.changes(old, new, f"{place}.*" if place else "*")

    def _items(self, old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[SchemaChange]:
        old_items, new_items = old.get("items", {}), new.get("items", {})
        if isinstance(old_items, list) or isinstance(new_items, list):
            yield from self._unclear("items", old, new, place)
        else:
            yield from self.changes(old_items, new_items, f"{place}[]")

    def _others(self, old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[SchemaChange]:
        for keyword in sorted((old.keys() | new.keys()) - _REMARKS - _COMPARED):
            yield from self._unclear(keyword, old, new, place)

    def _unclear(self, keyword: str, old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[SchemaChange]:
        before = {keyword: old[keyword]} if keyword in old else {}
        after = {keyword: new[keyword]} if keyword in new else {}
        if _rules_of(self._old_root, before) != _rules_of(self._new_root, after):
            yield SchemaChange(Rule.UNCLEAR, place, before or None, after or None)


def _rules_of(root: Mapping[str, Any], schema: Any, followed: frozenset[str] = frozenset()) -> Any:
    """The schema without its remarks, and with what its references lead to in their place."""
    if not isinstance(schema, Mapping):
        return schema
    rules = with_subschemas(
        {keyword: value for keyword, value in schema.items() if keyword not in _REMARKS},
        lambda inner: _rules_of(root, inner, followed),
    )
    reference = rules.get("$ref")
    if isinstance(reference, str) and reference not in followed:
        try:
            rules["$ref"] = _rules_of(root, resolve(root, reference), followed | {reference})
        except LookupError:
            pass  # it is compared as it stands
    return rules


def _followed(root: Mapping[str, Any], schema: Any) -> Mapping[str, Any]:
    """The schema as a mapping, its reference followed; what can't be followed stays, and is compared as it stands."""
    for _ in range(100):
        if schema is True:
            return {}
        if schema is False:
            return _NOTHING
        if not isinstance(schema, Mapping) or not isinstance(schema.get("$ref"), str):
            break
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        try:
            target = resolve(root, schema["$ref"])
        except LookupError:
            break
        if beside.keys() - _REMARKS and isinstance(target, Mapping):
            # A rule beside a reference counts from draft 2019-09 on: kept in sight, as a keyword that is not analysed.
            return {**target, "beside $ref": beside}
        schema = target
    return _with_null_as_type(root, schema) if isinstance(schema, Mapping) else {}


def _with_null_as_type(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """``anyOf: [X, {type: "null"}]``, as pydantic writes an optional value, as X with one more type."""
    choices = schema.get("anyOf")
    if not isinstance(choices, list) or len(choices) != 2 or {"type": "null"} not in choices:
        return schema
    if schema.keys() - _REMARKS - {"anyOf"}:
        return schema
    other = _followed(root, choices[1 - choices.index({"type": "null"})])
    kinds = other.get("type")
    if kinds is None or "not" in other or "const" in other:
        return schema
    values = {"enum": [*other["enum"], None]} if isinstance(other.get("enum"), list) else {}
    return {**other, "type": [*([kinds] if isinstance(kinds, str) else kinds), "null"], **values}


def _types(old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[SchemaChange]:
    before, after = _type_set(old), _type_set(new)
    if before != after:
        rule = _rule(after < before, before < after, Rule.TYPE_NARROWED, Rule.TYPE_WIDENED, Rule.TYPE_CHANGED)
        yield SchemaChange(rule, place, old.get("type"), new.get("type"))


def _type_set(schema: Mapping[str, Any]) -> frozenset[str]:
    kinds = schema.get("type")
    if kinds is None:
        return frozenset(_TYPES)
    names = [kinds] if isinstance(kinds, str) else kinds
    return frozenset(name for kind in names for name in (("integer", "fraction") if kind == "number" else (kind,)))


def _values(old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[SchemaChange]:
    before, after = _value_set(old), _value_set(new)
    if before == after:
        return
    told = (old.get("enum", old.get("const")), new.get("enum", new.get("const")))
    if before is None or after is None:
        yield SchemaChange(Rule.VALUES_NARROWED if before is None else Rule.VALUES_WIDENED, place, *told)
    else:
        rule = _rule(after < before, before < after, Rule.VALUES_NARROWED, Rule.VALUES_WIDENED, Rule.VALUES_CHANGED)
        yield SchemaChange(rule, place, *told)


def _value_set(schema: Mapping[str, Any]) -> frozenset[str] | None:
    found = None
    for keyword, values in (("enum", schema.get("enum")), ("const", [schema.get("const")])):
        if keyword in schema and isinstance(values, list):
            these = frozenset(map(_canonical, values))
            found = these if found is None else found & these
    return found


def _limits(old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[SchemaChange]:
    for keyword, greater_is_wider in _LIMITS.items():
        before, after = old.get(keyword), new.get(keyword)
        if before == after:
            continue
        if isinstance(before, bool) or isinstance(after, bool):  # draft 4's exclusiveMinimum
            yield SchemaChange(Rule.LIMIT_CHANGED, place, {keyword: before}, {keyword: after})
        elif before is None or (after is not None and (after > before) is not greater_is_wider):
            yield SchemaChange(Rule.LIMIT_NARROWED, place, {keyword: before}, {keyword: after})
        else:
            yield SchemaChange(Rule.LIMIT_WIDENED, place, {keyword: before}, {keyword: after})
    for keyword in ("pattern", "multipleOf", "uniqueItems"):
        before, after = old.get(keyword) or None, new.get(keyword) or None
        if before != after:
            rule = _rule(before is None, after is None, Rule.LIMIT_NARROWED, Rule.LIMIT_WIDENED, Rule.LIMIT_CHANGED)
            yield SchemaChange(rule, place, {keyword: before}, {keyword: after})
    before, after = old.get("format"), new.get("format")
    if before != after:
        yield SchemaChange(Rule.FORMAT_ADDED if before is None else Rule.FORMAT_CHANGED, place, before, after)


def _rule(narrowed: bool, widened: bool, if_narrowed: Rule, if_widened: Rule, otherwise: Rule) -> Rule:
    return if_narrowed if narrowed else if_widened if widened else otherwise


def _required(schema: Mapping[str, Any]) -> set[str]:
    required = schema.get("required")
    return set(required) if isinstance(required, list) else set()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
