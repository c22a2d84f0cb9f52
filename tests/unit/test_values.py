"""Every documented JSON form of a Python value: the tables of docs/reference/values.md are run as they stand there."""

from __future__ import annotations

import decimal
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events import values
from celery_tasker_events.errors import NotSerialisable

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "values.md").read_text()
NAMES: dict[str, Any] = {"__name__": __name__}
exec(compile(re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0], "values.md", "exec"), NAMES)


def rows(heading: str) -> list[Any]:
    """The examples of the table below a heading, each with the last cell of its row."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("| \n").split(" | ")] for line in section.splitlines() if line.startswith("|")]
    return [pytest.param(example.strip("`"), last.strip("`"), id=kind[:40]) for kind, example, last in cells[2:]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(("example", "form"), rows("Forms"))
def test_a_value_has_its_documented_form(example: str, form: str) -> None:
    encoded = values.encode(eval(example, NAMES))

    # Compared as text: 2 and 2.0, or 0.0 and -0.0, are not the same form.
    assert json.dumps(json.loads(encoded)) == json.dumps(json.loads(form))


@pytest.mark.parametrize(("example", "reason"), rows("No form"))
def test_what_has_no_form_is_told_with_the_documented_reason(example: str, reason: str) -> None:
    value = eval(example, NAMES)

    with pytest.raises(NotSerialisable) as caught:
        values.encode(value)

    assert str(caught.value) == f"{type(value).__name__} value has no JSON form: {reason}"


def test_the_page_has_all_kinds_that_matter() -> None:
    assert len(rows("Forms")) >= 25
    assert len(rows("No form")) >= 11


def test_a_set_of_unlike_members_is_an_array_in_any_order() -> None:
    assert sorted(values.decode(values.encode({1, "a"})), key=str) == [1, "a"]


@given(JSON)
def test_json_data_comes_back_as_it_went(value: Any) -> None:
    assert values.decode(values.encode(value)) == value


@given(JSON)
def test_the_encoding_is_what_any_json_parser_reads(value: Any) -> None:
    assert json.loads(values.encode(value)) == value


@given(st.decimals())
def test_a_decimal_loses_no_digit(value: decimal.Decimal) -> None:
    assert values.decode(values.encode(value)) == str(value)


KEYS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.uuids() | st.text("0123456789a", max_size=2)
)


@given(st.dictionaries(KEYS, st.integers(0, 9), max_size=8))
def test_no_entry_of_a_dict_is_lost_silently(value: dict[Any, int]) -> None:
    distinct = {values.encode({key: 0}) for key in value}

    if len(distinct) == len(value):
        assert sorted(values.decode(values.encode(value)).values()) == sorted(value.values())
    else:
        with pytest.raises(NotSerialisable, match="equal as strings"):
            values.encode(value)


@given(st.floats(), st.booleans())
def test_a_float_is_itself_or_null(value: float, derived: bool) -> None:
    ratio = NAMES["Ratio"](value) if derived else value
    assert values.decode(values.encode(ratio)) == (value if math.isfinite(value) else None)


class Raises:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def model_dump(self, mode: str) -> Any:
        raise self._error


class Endless:
    def model_dump(self, mode: str) -> Any:
        return self


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = {"in": [value]}
    return value


@pytest.mark.parametrize(
    "value",
    [Endless(), Raises(ValueError("boom")), Raises(SystemExit(3)), nested(200), nested(100_000), Raises],
    ids=["endless", "raises", "exits", "deep", "very deep", "a class, no object"],
)
def test_a_value_that_misbehaves_is_told_with_the_same_exception(value: Any) -> None:
    with pytest.raises(NotSerialisable, match="value has no JSON form: "):
        values.encode(value)


def test_what_waits_takes_hardly_more_memory_than_its_text_is_long() -> None:
    # In an interpreter of its own: what this one has freed before would be used first.
    program = """
import resource
from celery_tasker_events import values
def taken():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize()
before = taken()
kept = [values.encode({"number": number, "text": "x" * 500}) for number in range(20_000)]
print((taken() - before) / sum(map(len, kept)))
"""
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert float(ran.stdout) < 2
