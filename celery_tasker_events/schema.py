"""Payload validation: JSON Schemas are checked and compiled once, when the app starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.validators import validator_for
from referencing import Registry

from celery_tasker_events.errors import ConfigurationError, SchemaViolation

__all__ = ["PayloadValidator"]


# A registry that retrieves nothing: a schema never makes a process fetch something from the network.
_LOCAL_ONLY: Registry[Any] = Registry()


class PayloadValidator:
    """A compiled JSON Schema, draft-07 unless its ``$schema`` says otherwise.

    Raises:
        ConfigurationError: if the schema is not valid itself, or refers to something outside of it.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        kind = validator_for(schema, default=jsonschema.Draft7Validator)
        try:
            kind.check_schema(dict(schema))
        except jsonschema.SchemaError as error:
            place = "/".join(map(str, error.absolute_path)) or "its top level"
            raise ConfigurationError(f"invalid JSON Schema at {place}: {error.message}") from error
        for reference in _references(schema):
            if not reference.startswith("#"):
                raise ConfigurationError(
                    f"the JSON Schema refers to {reference!r}: only references within it ('#/...') are followed"
                )
        self._validator = kind(dict(schema), registry=_LOCAL_ONLY)

    def check(self, payload: Any) -> None:
        """Raise SchemaViolation, naming the place and the rule, if the payload does not match."""
        error = jsonschema.exceptions.best_match(self._validator.iter_errors(payload))
        if error is not None:
            place = "/".join(map(str, error.absolute_path))
            raise SchemaViolation(f"payload{'/' + place if place else ''}: {error.message}")


def _references(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)
