"""Subscription patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events.bus.pattern import Pattern

SEGMENTS = st.lists(st.from_regex(r"[a-z0-9_]{1,6}", fullmatch=True), min_size=2, max_size=5)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "payment.processed", True),
        ("*", "a.b.c.d", True),
        ("payment.*", "payment.failed", True),
        ("payment.*", "payment.card.failed", False),
        ("payment.*", "payment", False),
        ("payment.*", "payments.failed", False),
        ("*.failed", "payment.failed", True),
        ("*.failed", "payment.card.failed", False),
        ("*.*", "payment.failed", True),
        ("*.*", "payment.card.failed", False),
        ("payment.*.failed", "payment.card.failed", True),
        ("payment.*.failed", "payment.card.processed", False),
        ("payment.failed", "payment.failed", True),
        ("payment.failed", "payment.faile", False),
    ],
)
def test_a_star_is_one_segment_and_alone_it_is_every_event(pattern: str, name: str, *, matches: bool) -> None:
    assert Pattern(pattern).matches(name) is matches
    assert bool(re.search(Pattern(pattern).regular_expression, name)) is matches


@given(SEGMENTS)
def test_the_star_alone_matches_every_name(segments: list[str]) -> None:
    assert Pattern("*").matches(".".join(segments))


@given(SEGMENTS)
def test_a_name_is_a_pattern_that_matches_itself(segments: list[str]) -> None:
    assert Pattern(".".join(segments)).matches(".".join(segments))


@given(SEGMENTS, st.data())
def test_stars_in_place_of_any_segments_still_match(segments: list[str], data: st.DataObject) -> None:
    starred = [data.draw(st.sampled_from([segment, "*"])) for segment in segments]

    assert Pattern(".".join(starred)).matches(".".join(segments))


@given(SEGMENTS, SEGMENTS)
def test_a_pattern_without_stars_matches_nothing_but_itself(one: list[str], other: list[str]) -> None:
    assert Pattern(".".join(one)).matches(".".join(other)) is (one == other)


@given(SEGMENTS, SEGMENTS)
def test_stars_match_exactly_the_names_with_as_many_segments(one: list[str], other: list[str]) -> None:
    assert Pattern(".".join("*" for _ in one)).matches(".".join(other)) is (len(one) == len(other))


@given(SEGMENTS, st.data())
def test_a_segment_that_differs_keeps_a_pattern_from_matching(segments: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(segments) - 1))
    pattern = ["*"] * len(segments)
    pattern[place] = segments[place] + "x"

    assert not Pattern(".".join(pattern)).matches(".".join(segments))


@pytest.mark.parametrize(
    "text",
    ["", "payment", "**", "payment.**", "payment.", ".payment", "payment..x", "Payment.x", "pay*.x", "a.b\n", " *", None, 7],
)
def test_what_is_no_pattern_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="bad pattern"):
        Pattern(text)
