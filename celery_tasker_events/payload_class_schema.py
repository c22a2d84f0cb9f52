"""Has pydantic derive the schema of a class, as its instances are serialised; needs ``celery-tasker-events[pydantic]``."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from celery_tasker_events.errors import ConfigurationError

__all__ = ["derive"]


def derive(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of a pydantic model, a dataclass or a TypedDict.

    Raises:
        ConfigurationError: if pydantic can't.
    """
    try:
        return TypeAdapter(kind).json_schema(schema_generator=_AsSerialised, mode="serialization")
    except (PydanticUserError, NameError) as error:  # a NameError: an annotation names what there is not
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"class {kind.__qualname__} has no JSON Schema: {reason}") from error


class _AsSerialised(GenerateJsonSchema):
    """Models serialise themselves, by alias where they are configured so; around them values.py does, which knows no aliases."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.by_alias = False
        self._models = 0

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        outside = self.by_alias
        self.by_alias = bool(schema["cls"].model_config.get("serialize_by_alias"))
        self._models += 1
        try:
            return super().model_schema(schema)
        finally:
            self._models -= 1
            self.by_alias = outside

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        return super().timedelta_schema(schema) if self._models else {"type": "number"}
