"""A JSON Schema with its references followed and its ``allOf`` merged, for what only looks at the common keywords."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from celery_tasker_events.contract.subschemas import resolve

__all__ = ["flattened"]

_MAX_DEPTH = 20


def flattened(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return one schema in place of all that its ``$ref`` and ``allOf`` lead to; of equal keywords the last one counts.

    Raises:
        LookupError: if a reference leads nowhere.
        ValueError: if they go round in circles.
    """
    merged: dict[str, Any] = {}
    for part in _parts(root, schema, 0):
        for key, value in part.items():
            if key == "properties" and "properties" in merged:
                both = {name: {"allOf": [merged[key][name], value[name]]} for name in merged[key].keys() & value.keys()}
                merged[key] = {**merged[key], **value, **both}
            elif key == "required" and isinstance(value, list) and "required" in merged:
                merged[key] = [*merged[key], *value]
            else:
                merged[key] = value
    return merged


def _parts(root: Mapping[str, Any], schema: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if depth > _MAX_DEPTH:
        raise ValueError("its references go round in circles")
    if not isinstance(schema, Mapping):
        return
    if isinstance(schema.get("$ref"), str):
        yield from _parts(root, resolve(root, schema["$ref"]), depth + 1)
    for part in schema.get("allOf", ()):
        yield from _parts(root, part, depth + 1)
    yield {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
