"""Regular expressions in JSON Schemas, within a time limit: one can be written that takes years over a short text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import regex
from jsonschema import validators

__all__ = ["LIMIT", "with_limited_patterns"]

#: Seconds that one pattern may take for one text.
LIMIT = 0.1


def with_limited_patterns(kind: Any) -> Any:
    """Return the validator class with a time limit on ``pattern`` and ``patternProperties``; a text that passes it is refused."""
    extend: Any = validators.extend  # it has no type hints
    return extend(kind, {"pattern": _pattern, "patternProperties": _pattern_properties})


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    if not validator.is_type(instance, "string"):
        return
    try:
        if not _found(pattern, instance):
            yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")
    except TimeoutError:
        yield _too_slow(pattern)


def _pattern_properties(
    validator: Any, properties: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in properties.items():
        for key, value in instance.items():
            try:
                is_found = _found(pattern, key)
            except TimeoutError:
                yield _too_slow(pattern)
                return
            if is_found:
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _found(pattern: str, text: str) -> bool:
    # The standard library's re knows no limit, and holds the interpreter meanwhile; this one lets other threads run.
    return regex.search(pattern, text, timeout=LIMIT, concurrent=True) is not None


def _too_slow(pattern: str) -> jsonschema.ValidationError:
    return jsonschema.ValidationError(f"the pattern {pattern!r} took longer than {LIMIT:g} s: write it without nested repetition")
