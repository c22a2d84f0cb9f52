"""Payload validation: JSON Schemas are checked and compiled once, when the app starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
from jsonschema.validators import validator_for
from referencing import Registry, Specification
from referencing.exceptions import Unresolvable
from referencing.jsonschema import UnknownDialect, specification_with

from celery_tasker_events.errors import ConfigurationError, SchemaViolation
from celery_tasker_events.schema_fast import quick_yes

__all__ = ["PayloadValidator"]


# A registry that retrieves nothing: a schema never makes a process fetch something from the network.
_LOCAL_ONLY: Registry[Any] = Registry()

_DRAFT_7 = "http://json-schema.org/draft-07/schema#"


class PayloadValidator:
    """A compiled JSON Schema, draft-07 unless its ``$schema`` says otherwise.

    Raises:
        ConfigurationError: if the schema is not valid itself, or refers to something outside of it.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        for mapping in _mappings(schema):
            for key in mapping:
                if not isinstance(key, str):
                    raise ConfigurationError(f"the JSON Schema has the key {key!r}, which is no string: quote it")
        specification = _specification(schema.get("$schema", _DRAFT_7))
        kind = validator_for(schema, default=jsonschema.Draft7Validator)
        try:
            kind.check_schema(dict(schema))
        except jsonschema.SchemaError as error:
            place = "/".join(map(str, error.absolute_path)) or "its top level"
            raise ConfigurationError(f"invalid JSON Schema at {place}: {error.message}") from error
        _check_references(schema, specification)
        keywords = {key for mapping in _mappings(schema) for key in mapping}
        self._quick_yes = quick_yes(kind.__name__, schema, keywords)
        if not keywords.isdisjoint({"pattern", "patternProperties"}):
            # Imported here: few schemas have patterns.
            from celery_tasker_events.schema_patterns import with_limited_patterns

            kind = with_limited_patterns(kind)
        self._validator = kind(dict(schema), registry=_LOCAL_ONLY)

    def check(self, payload: Any) -> None:
        """Raise SchemaViolation, naming the place and the rule, if the payload does not match."""
        if self._quick_yes is not None and self._quick_yes(payload):
            return
        error = jsonschema.exceptions.best_match(self._validator.iter_errors(payload))
        if error is not None:
            place = "/".join(map(str, error.absolute_path))
            raise SchemaViolation(
                f"payload{'/' + place if place else ''}: {error.message}",
                error.absolute_path,
                (error.validator, error.validator_value),
                error.instance,
            )


def _specification(dialect: Any) -> Specification[Any]:
    try:
        return specification_with(dialect if isinstance(dialect, str) else "")
    except UnknownDialect as error:
        raise ConfigurationError(f"unknown $schema {dialect!r} in the JSON Schema: write for example {_DRAFT_7!r}") from error


def _check_references(schema: Mapping[str, Any], specification: Specification[Any]) -> None:
    resolver = _LOCAL_ONLY.with_resource("", specification.create_resource(dict(schema))).resolver()
    has_inner_ids = any("$id" in mapping for mapping in _mappings(schema) if mapping is not schema)
    for mapping in _mappings(schema):
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            reference = mapping.get(keyword)
            if not isinstance(reference, str):
                continue
            if not reference.startswith("#"):
                raise ConfigurationError(
                    f"the JSON Schema refers to {reference!r}: only references within it ('#/...') are followed"
                )
            try:
                # An inner $id changes what a reference near it starts from: such a schema is taken on trust.
                if not has_inner_ids:
                    resolver.lookup(reference)
            except Unresolvable as error:
                raise ConfigurationError(f"the JSON Schema refers to {reference!r}, which it does not have") from error


def _mappings(schema: Any) -> Iterator[Mapping[Any, Any]]:
    if isinstance(schema, Mapping):
        yield schema
        for value in schema.values():
            yield from _mappings(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _mappings(item)
