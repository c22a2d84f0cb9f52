"""Python values as JSON: one documented form for each type, the same on every path, or a clear refusal.

The forms are listed in ``docs/reference/values.md``, and a test runs over that list. An event's payload is brought into its
form once, before it takes any path: what a subscriber gets is what stands in the queue.

orjson is a hard dependency, and there is no second encoder: a value would else have another form, or none, in the process
that lacks it. ``json`` of the standard library writes ``NaN``, which no JSON parser need read, and takes ten times as long on
the task's thread.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import ipaddress
import os
import sys
from collections.abc import Mapping, Sequence, Set, ValuesView
from typing import Any

import orjson

from celery_tasker_events.errors import NotSerialisable

__all__ = ["decode", "encode"]

decode = orjson.loads

# orjson leaves fields of a dataclass out whose names begin with "_", and adds whatever else its __dict__ holds.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS

# With this orjson imports numpy as soon as it meets a value that it does not know, which takes a tenth of a second.
_NUMPY_OPTIONS = _OPTIONS | orjson.OPT_SERIALIZE_NUMPY

# orjson takes no time with an offset, unless it need not look at times at all; both of these cost time, so they come second.
_SECOND_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME

#: Bytes from which on a text is not worth its copy.
_LONG = 64 * 1024

_TEXTUAL = (
    decimal.Decimal,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)


def encode(value: Any) -> bytes:
    """Return the value as JSON in UTF-8.

    Raises:
        NotSerialisable: if a part of it has no JSON form.
    """
    options = _NUMPY_OPTIONS if "numpy" in sys.modules else _OPTIONS
    try:
        try:
            return _compact(orjson.dumps(value, _documented_form, options))
        except TypeError:
            encoded = orjson.dumps(value, _documented_form, options | _SECOND_OPTIONS)
    except TypeError as error:
        raise NotSerialisable(f"{type(value).__name__} value has no JSON form: {_reason(error)}") from error
    if _has_double_keys(encoded):
        raise NotSerialisable(f"{type(value).__name__} value has no JSON form: two keys of a dict are equal as strings")
    return _compact(encoded)


def _compact(encoded: bytes) -> bytes:
    # What orjson returns keeps one or two pages of memory for as long as it lives, however short it is, and to get these from
    # the system takes many times as long as the copy. Of something long hardly more is kept than is in it.
    return b"%b" % encoded if len(encoded) < _LONG else encoded


def _has_double_keys(encoded: bytes) -> bool:
    try:
        # What has been decoded once has each key once.
        return len(orjson.dumps(orjson.loads(encoded))) != len(encoded)
    except ValueError:  # an orjson.Fragment with something else than JSON in it: told where it is read
        return False


def _documented_form(value: Any) -> Any:
    if isinstance(value, _TEXTUAL):
        return str(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, datetime.date | datetime.time):
        return _moment(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return _container(value)


def _container(value: Any) -> Any:
    kind = type(value)
    if hasattr(kind, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return _sorted(value)
    if isinstance(value, Sequence | ValuesView):
        return list(value)
    if hasattr(kind, "tolist"):  # of numpy, what orjson does not take itself
        return value.tolist()
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} is not JSON serialisable")


def _moment(value: datetime.date | datetime.time) -> Any:
    if isinstance(value, datetime.time):
        return value.isoformat()
    return orjson.Fragment(orjson.dumps(value))


def _sorted(members: Set[Any]) -> list[Any]:
    try:
        return sorted(members)
    except Exception:  # members that can't be compared: their own code decides with what they say so
        return list(members)


_REASONS = {
    "64-bit range": "an integer is beyond 64 bits: give it as a string",
    "surrogates not allowed": "a string holds a lone surrogate, for which UTF-8 has no form",
    "Recursion limit reached": "it is nested too deeply (more than 254 levels), or holds itself",
    "default serializer exceeds": "it is made of values that never become JSON data",
    "Dict key must": "a dict key is none of str, int, float, bool, None, datetime, date, time, UUID and Enum: make it a string",
}


def _reason(error: TypeError) -> str:
    if error.__cause__ is not None:
        return str(error.__cause__)
    return next((reason for wording, reason in _REASONS.items() if wording in str(error)), str(error))
