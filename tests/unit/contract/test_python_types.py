"""Generated types say what a payload is; that mypy and ruff agree is seen in an integration test."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from hypothesis import given, settings

from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.contract.examples import examples_of
from celery_tasker_events.contract.python_types import python_types

from .making import LINKED, PAYMENT, make_entry
from .test_examples import SCHEMAS

TREE: dict[str, Any] = {
    "type": "object",
    "description": "A node,\nand what is below it",
    "required": ["value"],
    "properties": {
        "value": {"enum": ["a", 'say "b"', None], "description": "type: ignore"},
        "left": {"$ref": "#"},
        "rest": {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    },
}

TYPED_DICTS = """\
# Payloads of domain events, as TypedDicts. To write this file again:
#   make types

from typing import Literal

from typing_extensions import NotRequired, TypedDict


# payment.processed 1.0
class PaymentProcessed(TypedDict):
    #: As the gateway knows it
    transaction_id: str
    amount: float


# tree.grown 1.0
#: A node, and what is below it
class TreeGrown(TypedDict):
    #: type: ignore
    value: Literal["a", 'say "b"', None]
    left: NotRequired["TreeGrown"]
    rest: NotRequired["list[TreeGrown | None]"]
"""

MODELS = """\
# Payloads of domain events, as pydantic models. To write this file again:
#   make types

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


# a.b 1.0
class AB(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        serialize_by_alias=True,
    )

    class_: int = Field(alias="class")
    kind: Literal["x"] | None = None
    a_b: str | None = Field(default=None, alias="a-b")
"""


def module_of(source: str) -> dict[str, Any]:
    """Run a generated module."""
    module = types.ModuleType("generated_types")
    sys.modules[module.__name__] = module
    exec(compile(source, module.__name__, "exec"), module.__dict__)
    return module.__dict__


def test_typed_dicts() -> None:
    assert python_types([make_entry("tree.grown", schema=TREE), make_entry()], "make types") == TYPED_DICTS


def test_pydantic_models() -> None:
    schema = {
        "required": ["class"],
        "properties": {"class": {"type": "integer"}, "kind": {"const": "x"}, "a-b": {"type": "string"}},
        "additionalProperties": False,
    }

    assert python_types([make_entry("a.b", schema=schema)], "make types", pydantic=True) == MODELS


def test_keys_that_are_no_names_make_a_typed_dict_by_its_other_syntax() -> None:
    source = python_types(
        [make_entry("a.b", schema={"properties": {"a-b": {"type": "integer"}, "__x": {}}, "required": ["a-b"]})], ""
    )

    typed = module_of(source)["AB"]
    assert (typed.__required_keys__, typed.__optional_keys__) == ({"a-b"}, {"__x"})


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        ([make_entry("a.b", version="1.0"), make_entry("a.b", version="2.0")], ["ABV10", "ABV20"]),
        ([make_entry("a.b"), make_entry("a.b", step="other")], ["AB"]),
        ([make_entry("a.b"), make_entry("a.b", step="other", schema={"properties": {"x": {}}})], ["AB", "AB2"]),
        ([make_entry("a.b_c"), make_entry("a_b.c", schema={"properties": {"x": {}}})], ["ABC", "ABC2"]),
        ([make_entry("typed.dict"), make_entry("3d.done")], ["Event3dDone", "TypedDict2"]),
    ],
)
def test_each_payload_has_a_name_of_its_own(entries: list[CatalogEntry], names: list[str]) -> None:
    source = python_types(entries, "")

    assert [line.split("(")[0].removeprefix("class ") for line in source.splitlines() if line.startswith("class ")] == names


def test_a_long_type_has_a_name_of_its_own() -> None:
    values = [f"value number {number}" for number in range(5)]
    source = python_types([make_entry("a.b", schema={"properties": {"state": {"enum": values}}})], "")

    assert 'ABState = Literal[\n    "value number 0",\n' in source
    assert "    state: NotRequired[ABState]\n" in source


@pytest.mark.parametrize("pydantic", [False, True])
@settings(max_examples=60)
@given(schema=SCHEMAS)
def test_an_example_of_any_schema_is_valid_by_its_type(pydantic: bool, schema: Any) -> None:
    adapter_of = pytest.importorskip("pydantic").TypeAdapter
    module = module_of(python_types([make_entry("a.b", schema=schema)], "", pydantic=pydantic))

    for example in examples_of(schema):
        adapter_of(module["AB"]).validate_python(example)


@pytest.mark.parametrize("pydantic", [False, True])
@pytest.mark.parametrize("schema", [PAYMENT, LINKED, TREE, {"type": "array", "items": {"$ref": "#"}}, {"$ref": "#"}, None])
def test_a_type_is_made_of_any_reference(pydantic: bool, schema: Any) -> None:
    assert "AB" in module_of(python_types([make_entry("a.b", schema=schema)], "", pydantic=pydantic))
