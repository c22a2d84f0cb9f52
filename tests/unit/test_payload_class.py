"""A payload class: its schema is that of what its instances become, so that no instance is ever refused."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import sys
import uuid
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import NotRequired, TypedDict

from celery_tasker_events import values
from celery_tasker_events.errors import ConfigurationError, SchemaViolation
from celery_tasker_events.payload_class import schema_of_class
from celery_tasker_events.schema import PayloadValidator

pydantic = pytest.importorskip("pydantic")

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: float


class Money(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True, populate_by_name=True)

    in_cents: int = pydantic.Field(alias="inCents")


class Span(pydantic.BaseModel):
    took: datetime.timedelta
    long_name: int = pydantic.Field(alias="longName", default=1)
    hidden: str = pydantic.Field(default="x", exclude=True)
    price: Money | None = None

    @pydantic.computed_field
    @property
    def seconds(self) -> float:
        return self.took.total_seconds()


@dataclasses.dataclass
class Everything:
    text: str
    number: float
    took: datetime.timedelta
    when: datetime.datetime
    day: datetime.date
    price: decimal.Decimal
    key: uuid.UUID
    path: Path
    colour: Colour
    point: Point
    tags: set[int]
    raw: bytes
    span: Span
    _private: int
    money: Money | None = None
    nested: dict[str, list[Everything]] = dataclasses.field(default_factory=dict)


class Item(TypedDict):
    took: datetime.timedelta
    everything: NotRequired[list[Everything]]
    pair: NotRequired[tuple[int, Money]]


class Envelope(pydantic.BaseModel, Generic[T]):
    content: T
    everything: list[Everything] = pydantic.Field(default_factory=list)


class Root(pydantic.RootModel[list[Money]]): ...


MONEY = st.builds(lambda cents: Money(in_cents=cents), st.integers(-9, 9))
SPANS = st.builds(Span, took=st.timedeltas(), price=st.none() | MONEY)
EVERYTHING: Any = st.builds(
    Everything,
    text=st.text(max_size=3),
    number=st.floats(allow_nan=False, allow_infinity=False),
    took=st.timedeltas(),
    when=st.datetimes(),
    day=st.dates(),
    price=st.decimals(allow_nan=False, allow_infinity=False, places=2),
    key=st.uuids(),
    path=st.just(Path("a/b")),
    colour=st.just(Colour.RED),
    point=st.builds(Point, x=st.integers(0, 9), y=st.just(0.5)),
    tags=st.sets(st.integers(0, 9)),
    raw=st.binary(max_size=3),
    span=SPANS,
    _private=st.just(1),
    money=st.none() | MONEY,
    nested=st.just({}),
)
INSTANCES = [
    (Money, MONEY),
    (Span, SPANS),
    (
        Everything,
        EVERYTHING | st.builds(lambda one, other: dataclasses.replace(one, nested={"a": [other]}), EVERYTHING, EVERYTHING),
    ),
    (
        Item,
        st.fixed_dictionaries(
            {"took": st.timedeltas()},
            optional={"everything": st.lists(EVERYTHING, max_size=1), "pair": st.tuples(st.just(1), MONEY)},
        ),
    ),
    (Envelope[Money], st.builds(lambda money: Envelope[Money](content=money), MONEY)),
    (Root, st.builds(lambda money: Root([money]), MONEY)),
]


@pytest.mark.parametrize(("kind", "instances"), INSTANCES, ids=[kind.__name__ for kind, _ in INSTANCES])
def test_what_an_instance_becomes_is_valid_by_the_schema_of_its_class(kind: Any, instances: Any) -> None:
    validator = PayloadValidator(schema_of_class(kind))

    @given(instances)
    def check(instance: Any) -> None:
        validator.check(values.decode(values.encode(instance)))

    check()


def test_the_schema_says_which_draft_it_is() -> None:
    assert schema_of_class(Money) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Money",
        "type": "object",
        "required": ["inCents"],
        "properties": {"inCents": {"title": "Incents", "type": "integer"}},
    }


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Money, {"in_cents": 1}),
        (Money, {"inCents": "1"}),
        (Item, {}),
        (Item, {"took": "PT1S"}),
        (Span, {"took": 1, "seconds": 1}),
    ],
)
def test_what_no_instance_becomes_is_refused(kind: Any, payload: Any) -> None:
    with pytest.raises(SchemaViolation):
        PayloadValidator(schema_of_class(kind)).check(payload)


@attrs.define
class Attrs:
    x: int


@dataclasses.dataclass
class Odd:
    x: threading.Thread  # noqa: F821  # what a user may forget to import


@dataclasses.dataclass
class Open:
    x: type(sys)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Attrs, "class Attrs can't be a schema: give a pydantic model"),
        (int, "class int can't be a schema"),
        (list[int], "class list can't be a schema"),
        (Odd, "class Odd has no JSON Schema: "),
        (Open, "class Open has no JSON Schema: "),
    ],
)
def test_what_is_wrong_with_a_class_is_told(kind: type, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        schema_of_class(kind)


def test_without_pydantic_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "celery_tasker_events.payload_class_schema", raising=False)
    monkeypatch.setitem(sys.modules, "pydantic", None)

    with pytest.raises(ConfigurationError, match=r"needs pydantic: pip install 'celery-tasker-events\[pydantic\]'"):
        schema_of_class(Everything)
