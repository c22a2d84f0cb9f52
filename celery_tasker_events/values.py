"""Python values as JSON: one documented form for each type, the same on every path.

==========================  =======================================================
Python                      JSON
==========================  =======================================================
str, bool, None, dict, ...  themselves; dict keys become strings
int                         number; beyond 64 bits: not serialisable
float                       number; NaN and the infinities: null
Decimal                     string, exact
datetime, date, time        string, RFC 3339; without an offset if naive
timedelta                   number, seconds
UUID, path                  string
Enum                        its value
bytes, bytearray            string, base64
set, frozenset              array, sorted where the members can be
tuple, namedtuple           array
dataclass, attrs, pydantic  object
==========================  =======================================================
"""

from __future__ import annotations

import base64
import datetime
import decimal
import os
from collections.abc import Mapping
from typing import Any

import orjson

from celery_tasker_events.errors import NotSerialisable

__all__ = ["decode", "encode"]

decode = orjson.loads


def encode(value: Any) -> bytes:
    """Return the value as JSON in UTF-8.

    Raises:
        NotSerialisable: if a part of it has no JSON form.
    """
    try:
        try:
            return orjson.dumps(value, _documented_form)
        except TypeError:
            return orjson.dumps(value, _documented_form, orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise NotSerialisable(f"{type(value).__name__} value has no JSON form: {error.__cause__ or error}") from error


def _documented_form(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, set | frozenset):
        try:
            return sorted(value)
        except TypeError:
            return list(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(type(value), "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in type(value).__attrs_attrs__}
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is not JSON serialisable")
