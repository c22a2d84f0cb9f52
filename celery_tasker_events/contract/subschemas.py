"""Where a JSON Schema has schemas inside of it, of any draft; and how its references are moved to another document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

__all__ = ["moved", "resolve", "subschemas", "with_subschemas"]

_ONE = frozenset(
    {
        *("additionalProperties", "additionalItems", "propertyNames", "contains", "not", "if", "then", "else"),
        *("unevaluatedItems", "unevaluatedProperties", "contentSchema", "items"),
    }
)
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_MAPPINGS = frozenset({"properties", "patternProperties", "definitions", "$defs", "dependentSchemas", "dependencies"})


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """Yield the schemas directly inside of one, with the path to each; ``true`` and ``false`` are none."""
    for keyword, value in schema.items():
        if keyword in _ONE and isinstance(value, Mapping):
            yield (keyword,), value
        elif keyword in _LISTS and isinstance(value, list):
            yield from (((keyword, index), item) for index, item in enumerate(value) if isinstance(item, Mapping))
        elif keyword in _MAPPINGS and isinstance(value, Mapping):
            yield from (((keyword, key), item) for key, item in value.items() if isinstance(item, Mapping))


def resolve(schema: Mapping[str, Any], reference: str) -> Any:
    """Return the schema that a reference within it leads to.

    Raises:
        LookupError: if there is none.
    """
    pointer = _pointer(schema, reference)
    found: Any = schema
    for part in pointer.split("/")[1:]:
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise LookupError(reference) from None
    return found


def moved(schema: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return the schema as it stands in another document: its references start from there, and it has no id of its own.

    Args:
        place: JSON pointer to its place there, such as ``"#/components/schemas/Payment"``.
    """

    def at_place(reference: str) -> str:
        try:
            return place + _pointer(schema, reference)
        except LookupError:
            return reference

    whole = {key: value for key, value in schema.items() if key not in ("$id", "id", "$schema")}
    return _with_references(whole, at_place)


def with_subschemas(schema: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the schema with each schema that is directly inside of it changed, ``true`` and ``false`` included."""
    result: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _ONE and not isinstance(value, list):
            result[keyword] = change(value)
        elif keyword in _LISTS and isinstance(value, list):
            result[keyword] = [change(item) for item in value]
        elif keyword in _MAPPINGS and isinstance(value, Mapping):
            # An element of draft 7's "dependencies" may be a list of names.
            result[keyword] = {key: item if isinstance(item, list) else change(item) for key, item in value.items()}
        else:
            result[keyword] = value
    return result


def _with_references(schema: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    result = with_subschemas(schema, lambda inner: _inner(inner, change))
    if isinstance(result.get("$ref"), str):
        result["$ref"] = change(result["$ref"])
    return result


def _inner(schema: Any, change: Callable[[str], str]) -> Any:
    # Below an id of its own, a reference starts from there.
    if not isinstance(schema, Mapping) or str(schema.get("$id", "#")).partition("#")[0]:
        return schema
    return _with_references(schema, change)


def _pointer(schema: Mapping[str, Any], reference: str) -> str:
    """Return the JSON pointer of a reference within a schema, without its ``#``."""
    if not reference.startswith("#"):
        raise LookupError(reference)
    fragment = reference[1:]
    if not fragment or fragment.startswith("/"):
        return fragment
    path = _path_of_anchor(schema, fragment)
    if path is None:
        raise LookupError(reference)
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def _path_of_anchor(schema: Mapping[str, Any], anchor: str) -> tuple[str | int, ...] | None:
    if anchor in (schema.get("$anchor"), schema.get("$dynamicAnchor")) or schema.get("$id") == f"#{anchor}":
        return ()
    for path, inner in subschemas(schema):
        below = _path_of_anchor(inner, anchor)
        if below is not None:
            return path + below
    return None
