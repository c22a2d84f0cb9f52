"""When a target is asked again: it may say so, but neither at once nor never."""

from __future__ import annotations

import datetime
import threading
from types import SimpleNamespace

import pytest

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.consumer.delivery import Message, open_message
from celery_tasker_events.consumer.forwarding import LONGEST_WISH, Forwarding, Outage, Verdicts
from celery_tasker_events.consumer.targets import NotNow, TargetUnavailable, target_for
from celery_tasker_events.envelope import by_name

from ..making import make_event

MOMENT = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
WISHES = [(None, 7), (0, 7), (20, 20), (10**9, LONGEST_WISH)]


def verdicts() -> Verdicts:
    return Verdicts([Pattern("*")], "forward", "delete", "archive", None, lambda attempt: 7)


@pytest.mark.parametrize(("after", "expected"), WISHES)
def test_an_event_that_is_not_taken_is_tried_again_after_the_backoff_or_later_if_the_target_says_so(after, expected):
    body = by_name("native").to_message(make_event()).decode()
    message = Message("payments_domain_events", 1, 1, MOMENT, body, None)

    settlement = verdicts().judge(message, open_message(message), NotNow("full", after))

    assert settlement.delay == expected


@pytest.mark.parametrize(("after", "expected"), WISHES)
def test_a_target_that_is_unavailable_is_asked_again_after_the_backoff_or_later_if_it_says_so(after, expected, monkeypatch):
    class Stopping(threading.Event):
        def wait(self, timeout=None):
            waited.append(timeout)
            return super().wait(0)

    waited: list[float | None] = []
    monkeypatch.setattr("celery_tasker_events.consumer.forwarding.FIRST_BACKOFF", 7)
    monkeypatch.setattr("celery_tasker_events.chance.between", lambda low, high: high)
    engine = SimpleNamespace(stopping=Stopping())
    forwarding = Forwarding(engine, target_for("stdout:"), verdicts(), Outage("stdout:"), may_wait=True)

    forwarding._wait(TargetUnavailable("away", after))

    assert waited == [expected]
