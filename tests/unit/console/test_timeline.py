"""A workflow's events as bars."""

from __future__ import annotations

import datetime

from celery_tasker_events.console.timeline import LEAST, timeline_of
from celery_tasker_events.consumer.entry import DEAD_LETTER, Entry, Outline

BEGAN = datetime.datetime(2026, 1, 1, 10, tzinfo=datetime.timezone.utc)


def entry(fired_ms: float, took_ms: float | None = None, **fields: object) -> Entry:
    fired_at = BEGAN + datetime.timedelta(milliseconds=fired_ms)
    known = {"event_name": "a.b", "namespace": "a", "outcome": "completed", **fields}
    outline = Outline(**known, execution_time_ms=took_ms, fired_at=fired_at)
    return Entry("a_domain_events", 1, fired_at, None, 0, fired_at, {}, {}, outline)


def test_bars_stand_where_their_steps_ran():
    timeline = timeline_of([entry(100, 100, step_uuid="1"), entry(1000, 500, step_uuid="2")])

    assert [(bar.left, bar.width) for bar in timeline.bars] == [(0.0, 100.0), (500.0, 500.0)]
    assert [bar.offset for bar in timeline.bars] == ["+100 ms", "+1.00 s"]
    assert (timeline.steps, timeline.took, timeline.ticks[-1]) == (2, "1.00 s", "1.00 s")


def test_a_step_of_unknown_length_is_a_mark_that_can_be_seen_and_lies_inside():
    timeline = timeline_of([entry(0), entry(1000)])

    assert [(bar.left, bar.width) for bar in timeline.bars] == [(0.0, LEAST), (1000 - LEAST, LEAST)]


def test_a_single_event_is_a_story_too():
    [bar] = timeline_of([entry(0)]).bars

    assert (bar.left, bar.width, bar.took) == (0.0, LEAST, "-")


def test_failures_and_namespaces_are_counted_dead_letters_too():
    timeline = timeline_of(
        [entry(0, outcome="retrying"), entry(1, outcome="failed", namespace="b"), entry(2, outcome=DEAD_LETTER), entry(3)]
    )

    assert timeline.failures == 3
    assert timeline.namespaces == ("a", "b")
