"""Numbers as people read them."""

from __future__ import annotations

import pytest

from celery_tasker_events.consumer.quantities import duration, precise, quantity, rate


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0 s"),
        (1.25, "1.2 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (7500, "2 h 5 min"),
        (90_000, "1 d 1 h"),
        (86_400 * 400, "400 d"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.0, "0 ms"), (0.0124, "12 ms"), (1.254, "1.25 s"), (61, "1 min 1 s")]
)
def test_a_short_time_is_told_to_the_millisecond(seconds, text):
    assert precise(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0"), (9999, "9999"), (12_345, "12.35k"), (200_000, "200k"), (1_234_567, "1.235M"), (5e9, "5G")],
)
def test_a_count_has_four_digits_at_most(number, text):
    assert quantity(number) == text


@pytest.mark.parametrize(
    ("per_second", "text"), [(None, "-"), (0.0, "0/s"), (0.333333, "0.33/s"), (12.5, "12.5/s"), (48_000.4, "48k/s")]
)
def test_a_rate_is_told_per_second(per_second, text):
    assert rate(per_second) == text
