"""Ids that are missing below the last one seen are remembered until nobody can commit them any more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events.consumer import gaps as gaps_module
from celery_tasker_events.consumer.gaps import Gaps


def test_ids_that_follow_each_other_leave_no_gap() -> None:
    gaps = Gaps()

    assert gaps.add(4, [7, 5, 6]) == 7
    assert gaps.ranges == []


def test_what_is_missing_between_the_ids_is_a_gap() -> None:
    gaps = Gaps()

    assert gaps.add(4, [6, 10]) == 10
    assert gaps.ranges == [(5, 5), (7, 9)]


def test_nothing_new_changes_nothing() -> None:
    gaps = Gaps()

    assert gaps.add(4, []) == 4
    assert gaps.add(4, [3]) == 4
    assert gaps.ranges == []


def test_an_id_that_turns_up_splits_its_gap() -> None:
    gaps = Gaps()
    gaps.add(0, [10])

    gaps.fill([4, 1])

    assert gaps.ranges == [(2, 3), (5, 9)]


NOBODY = frozenset[str]()


def test_a_gap_lasts_until_all_have_ended_that_ran_when_it_was_seen() -> None:
    gaps = Gaps()
    gaps.add(0, [2])

    # The look after the gap was seen: transaction 100 runs, 105 is the next.
    gaps.settle(xmin=100, xmax=105, writers=NOBODY)
    gaps.settle(xmin=104, xmax=120, writers=NOBODY)
    assert gaps.ranges == [(1, 1)]

    gaps.settle(xmin=105, xmax=121, writers=NOBODY)
    assert gaps.ranges == []


def test_a_gap_lasts_until_all_have_ended_that_wrote_when_it_was_seen() -> None:
    gaps = Gaps()
    gaps.add(0, [2])

    gaps.settle(xmin=1, xmax=1, writers=frozenset({"3/7", "4/9"}))
    gaps.settle(xmin=2, xmax=2, writers=frozenset({"4/9", "5/1"}))
    assert gaps.ranges == [(1, 1)]

    gaps.settle(xmin=3, xmax=3, writers=frozenset({"5/1", "4/10"}))
    assert gaps.ranges == []


def test_a_gap_of_which_a_part_turned_up_lasts_as_long() -> None:
    gaps = Gaps()
    gaps.add(0, [4])
    gaps.settle(xmin=100, xmax=105, writers=frozenset({"3/7"}))

    gaps.fill([2])
    gaps.settle(xmin=104, xmax=200, writers=NOBODY)
    gaps.settle(xmin=105, xmax=200, writers=frozenset({"3/7"}))
    assert gaps.ranges == [(1, 1), (3, 3)]

    gaps.settle(xmin=105, xmax=200, writers=NOBODY)
    assert gaps.ranges == []


def test_the_oldest_gaps_are_given_up_beyond_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps_module, "LIMIT", 2)
    gaps = Gaps()

    gaps.add(0, [2, 4, 6])

    assert gaps.ranges == [(3, 3), (5, 5)]


@given(st.lists(st.sets(st.integers(1, 60), max_size=10), max_size=5))
def test_each_id_up_to_the_last_one_is_either_seen_or_in_a_gap(rounds: list[set[int]]) -> None:
    gaps, last, seen = Gaps(), 0, set[int]()
    for ids in rounds:
        gaps.fill(msg_id for msg_id in ids if msg_id <= last)
        last = gaps.add(last, (msg_id for msg_id in ids if msg_id > last))
        seen |= ids

    missing = {msg_id for low, high in gaps.ranges for msg_id in range(low, high + 1)}
    assert missing == set(range(1, last + 1)) - seen
