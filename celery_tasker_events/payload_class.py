"""The JSON Schema of a payload class: of a pydantic model, a dataclass or a TypedDict.

pydantic derives it, as it is installed for the models anyway, and knows what annotations mean. The schema is that of what
:mod:`celery_tasker_events.values` makes of an instance, which is not in every respect what pydantic would.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_origin

from celery_tasker_events.errors import ConfigurationError

__all__ = ["schema_of_class"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of_class(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of the payloads that instances of a class become.

    Raises:
        ConfigurationError: if it is no such class, has a field without a JSON form, or pydantic is not installed.
    """
    if get_origin(kind) is not None or not (
        hasattr(kind, "model_json_schema") or dataclasses.is_dataclass(kind) or _is_typed_dict(kind)
    ):
        known = "a pydantic model (version 2), a dataclass, a TypedDict or a JSON Schema"
        raise ConfigurationError(f"class {kind.__qualname__} can't be a schema: give {known}")
    try:
        # Imported here: few apps declare events by classes, and pydantic is an extra.
        from celery_tasker_events.payload_class_schema import derive
    except ImportError as error:
        remedy = "pip install 'celery-tasker-events[pydantic]'"
        raise ConfigurationError(f"class {kind.__qualname__} as a schema needs pydantic: {remedy} ({error})") from error
    return {"$schema": _DIALECT, **derive(kind)}


def _is_typed_dict(kind: type) -> bool:
    # typing has one and typing_extensions another, which older Pythons don't take for one.
    return issubclass(kind, dict) and hasattr(kind, "__total__")
