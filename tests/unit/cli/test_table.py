"""A table shows every value whole, and becomes a list where a terminal is too narrow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events.cli.table import as_table

ROWS = [{"TASK": "shop.pay", "EVENT": "a.b"}, {"TASK": "x", "EVENT": "long.event.name"}]
TABLE = "TASK      EVENT\nshop.pay  a.b\nx         long.event.name"
LIST = "TASK   shop.pay\nEVENT  a.b\n\nTASK   x\nEVENT  long.event.name"


def test_columns_are_as_wide_as_their_widest_value() -> None:
    assert as_table(ROWS, None) == TABLE


def test_a_terminal_that_is_just_wide_enough_shows_the_table_and_a_narrower_one_a_list() -> None:
    width = len("shop.pay  long.event.name")

    assert as_table(ROWS, width) == TABLE
    assert as_table(ROWS, width - 1) == LIST


def test_wide_and_combining_characters_keep_the_columns_straight() -> None:
    rows = [{"TASK": "支払い", "EVENT": "a.b"}, {"TASK": "cafe\u0301", "EVENT": "a.c"}]

    assert as_table(rows, None) == "TASK    EVENT\n支払い  a.b\ncafe\u0301    a.c"


def test_nothing_is_shown_for_no_rows() -> None:
    assert as_table([], 80) == ""


cells = st.text(st.characters(codec="ascii", exclude_categories=["C", "Lu"]), min_size=1, max_size=20).map(
    lambda s: s.strip() or "-"
)


@given(st.lists(st.fixed_dictionaries({"A": cells, "B": cells}), min_size=1), st.integers(1, 60))
def test_no_value_is_ever_cut_and_no_table_is_wider_than_the_terminal(rows: list[dict[str, str]], width: int) -> None:
    lines = as_table(rows, width).splitlines()

    for row in rows:
        assert any(row["A"] in line for line in lines)
        assert any(row["B"] in line for line in lines)
    if lines[0].split() == ["A", "B"]:
        assert max(map(len, lines)) <= width
