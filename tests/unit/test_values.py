"""Every documented JSON form of a Python value."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events import values
from celery_tasker_events.errors import NotSerialisable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)

UTC = datetime.timezone.utc
Point = collections.namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = "red"
    PRICE = decimal.Decimal("1.10")


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    total: decimal.Decimal


class Field:
    def __init__(self, name: str) -> None:
        self.name = name


class Shirt:
    """What ``@attrs.define`` leaves on a class, as far as it matters here."""

    __attrs_attrs__ = (Field("colour"), Field("size"))
    colour = "red"
    size = 3


class Pydantic:
    def model_dump(self, mode: str) -> Any:
        return {"dumped": mode}


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (decimal.Decimal("10.00"), "10.00"),
        (decimal.Decimal("1E+50"), "1E+50"),
        (datetime.datetime(2025, 12, 1, 10, 0, 0, 5, UTC), "2025-12-01T10:00:00.000005+00:00"),
        (datetime.date(2025, 12, 1), "2025-12-01"),
        (datetime.time(10, 30), "10:30:00"),
        (datetime.timedelta(minutes=1, milliseconds=500), 60.5),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/srv/x"), "/srv/x"),
        (Colour.RED, "red"),
        (Colour.PRICE, "1.10"),
        (b"\xff\x00", "/wA="),
        (bytearray(b"a"), "YQ=="),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset(["b", "a"]), ["a", "b"]),
        ((1, "a"), [1, "a"]),
        (Point(1, 2), [1, 2]),
        (Order(uuid.UUID(int=2), decimal.Decimal("9.90")), {"id": str(uuid.UUID(int=2)), "total": "9.90"}),
        (Shirt(), {"colour": "red", "size": 3}),
        (Pydantic(), {"dumped": "json"}),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (float("nan"), None),
        (float("-inf"), None),
        ({1: "int", None: "none", False: "bool"}, {"1": "int", "null": "none", "false": "bool"}),
        ({uuid.UUID(int=3): 1}, {str(uuid.UUID(int=3)): 1}),
        ({datetime.date(2025, 1, 2): 1}, {"2025-01-02": 1}),
        ({"deep": [{"er": {decimal.Decimal("0.1")}}]}, {"deep": [{"er": ["0.1"]}]}),
    ],
)
def test_a_value_has_its_documented_form(value: Any, form: Any) -> None:
    assert json.loads(values.encode(value)) == form


def test_a_set_of_unlike_members_is_an_array_in_any_order() -> None:
    assert sorted(values.decode(values.encode({1, "a"})), key=str) == [1, "a"]


@given(JSON)
def test_json_data_comes_back_as_it_went(value: Any) -> None:
    assert values.decode(values.encode(value)) == value


@given(JSON)
def test_the_encoding_is_what_any_json_parser_reads(value: Any) -> None:
    assert json.loads(values.encode(value)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_loses_no_digit(value: decimal.Decimal) -> None:
    assert decimal.Decimal(values.decode(values.encode(value))) == value


class Raises:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def model_dump(self, mode: str) -> Any:
        raise self._error


class Endless:
    def model_dump(self, mode: str) -> Any:
        return self


def _circle() -> Any:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    "value",
    [
        object(),
        2**64,
        -(2**63) - 1,
        "\ud800",
        {"key": {"deep": object()}},
        {(1, 2): "tuple key"},
        {b"a": "bytes key"},
        _circle(),
        Endless(),
        Raises(ValueError("boom")),
        Raises(SystemExit(3)),
        lambda: None,
        1j,
    ],
)
def test_what_has_no_json_form_is_told_with_one_exception(value: Any) -> None:
    with pytest.raises(NotSerialisable, match="value has no JSON form: "):
        values.encode(value)


def test_the_type_without_a_form_is_named_wherever_it_hides() -> None:
    with pytest.raises(NotSerialisable, match=r"dict value has no JSON form: builtins\.complex"):
        values.encode({"a": [1j]})
