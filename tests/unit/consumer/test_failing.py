"""How long a consumer waits between attempts, and what a dead letter says."""

from __future__ import annotations

import datetime

import pytest

from celery_tasker_events import ConfigurationError, values
from celery_tasker_events.consumer import ExponentialBackoff, RetryLater
from celery_tasker_events.consumer.delivery import Message
from celery_tasker_events.consumer.failing import LONGEST, dead_letter, seconds_to_wait


def test_each_wait_is_longer_up_to_the_longest_and_differs_by_half_at_most():
    backoff = ExponentialBackoff(first=2, factor=3, longest=100)

    for attempt, longest in ((1, 2), (2, 6), (3, 18), (4, 54), (5, 100), (10_000, 100)):
        waits = [backoff(attempt) for _ in range(50)]
        assert longest / 2 <= min(waits) <= max(waits) <= longest
        assert len(set(waits)) > 1


@pytest.mark.parametrize("options", [{"first": -1}, {"factor": 0.5}, {"longest": -1}, {"first": float("nan")}])
def test_a_backoff_that_is_none_is_refused(options):
    with pytest.raises(ConfigurationError):
        ExponentialBackoff(**options)


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (ValueError(), 5),
        (RetryLater(0), 0),
        (RetryLater(0.2), 1),
        (RetryLater(-3), 0),
        (RetryLater(float("nan")), 0),
        (RetryLater(float("inf")), LONGEST),
    ],
)
def test_waits_are_whole_seconds_and_a_handler_s_own_wish_goes_first(error, wait):
    assert seconds_to_wait(error, 2, lambda attempt: attempt * 2.1) == wait


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("error", [ValueError("a\0b \ud800"), Unspeakable()])
def test_a_dead_letter_is_json_that_postgres_takes_whatever_the_error_is_like(error):
    message = Message("q", 7, 3, datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc), "{}", None)

    letter = dead_letter(message, "handler", error, "ledger", {"event_id": "1"})

    encoded = values.encode(letter)
    assert b"\\u0000" not in encoded.replace(b"\\\\u0000", b"")
    assert values.decode(encoded)["enqueued_at"] == "2026-01-01T00:00:00.000000Z"
    assert (letter["attempts"], letter["message_id"], letter["event_id"]) == (3, 7, "1")
