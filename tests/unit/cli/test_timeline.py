"""A workflow's events as a timeline."""

from __future__ import annotations

import datetime

from celery_tasker_events.cli.timeline import as_timeline
from celery_tasker_events.consumer.entry import Entry, Outline

BEGAN = datetime.datetime(2026, 1, 1, 10, tzinfo=datetime.timezone.utc)


def entry(fired_ms: float, took_ms: float | None, step: str | None = "pay", **fields: object) -> Entry:
    fired_at = BEGAN + datetime.timedelta(milliseconds=fired_ms)
    outline = Outline(
        event_name="a.b",
        namespace="payments",
        step_name=step,
        step_uuid=step,
        outcome="completed",
        attempt=1,
        execution_time_ms=took_ms,
        fired_at=fired_at,
        **fields,
    )
    return Entry("payments_domain_events", 1, fired_at, None, 0, fired_at, {}, {}, outline)


def bars(drawn: str) -> list[str]:
    heading, *lines = drawn.splitlines()[1:]
    return [line[heading.index("TIMELINE") :] for line in lines]


STORY = [entry(100, 100, "reserve"), entry(300, 200, "charge"), entry(400, 300, "email"), entry(400, 0, "close")]


def test_the_headline_says_how_much_and_how_long() -> None:
    assert as_timeline(STORY, None).splitlines()[0] == "4 events of 4 steps in 1 namespace, 0.400 s from 2026-01-01T10:00:00.000Z"
    assert as_timeline(STORY[:1], None).startswith("1 event of 1 step in 1 namespace, 0.100 s from ")


def test_each_event_has_its_distance_from_the_first_start_and_its_duration() -> None:
    rows = [line.split() for line in as_timeline(STORY, None).splitlines()[2:]]

    assert [(row[0], row[3], row[7]) for row in rows] == [
        ("+0.100", "reserve", "100"),
        ("+0.300", "charge", "200"),
        ("+0.400", "email", "300"),
        ("+0.400", "close", "0"),
    ]


def test_bars_show_what_ran_at_the_same_time() -> None:
    reserve, charge, email, close = bars(as_timeline(STORY, None))

    assert reserve == "█" * 11
    assert charge == " " * 10 + "█" * 21
    assert email == " " * 10 + "█" * 30
    assert close == " " * 39 + "█"


def test_a_narrow_terminal_gets_narrow_bars_or_bars_below_the_lines_or_blocks() -> None:
    table_width = max(len(line) for line in as_timeline(STORY, None).splitlines()) - 42

    narrower = as_timeline(STORY, table_width + 22)
    assert max(len(bar) for bar in bars(narrower)) == 20
    assert max(len(line) for line in narrower.splitlines()[1:]) <= table_width + 22

    below = as_timeline(STORY, table_width).splitlines()
    assert [line.split()[3] for line in below[2::2]] == ["reserve", "charge", "email", "close"]
    assert below[3] == "█" * (table_width // 4 + 1)
    assert below[9] == " " * (table_width - 1) + "█"

    blocks = as_timeline(STORY, 40).splitlines()[1:]
    assert "STEP       charge" in blocks
    assert f"TIMELINE   {' ' * 7}{'█' * 15}" in blocks
    assert max(map(len, blocks)) <= 40


def test_errors_have_a_column_only_if_there_are_any() -> None:
    assert "ERROR" not in as_timeline(STORY, None)

    heading, first, second = as_timeline([entry(0, None), entry(100, None, error="no funds")], None).splitlines()[1:]
    assert heading.endswith("  ERROR")
    assert first[heading.index("ERROR") :] == "-"
    assert second[heading.index("ERROR") :] == "no funds"


def test_an_event_without_a_duration_is_a_moment() -> None:
    assert bars(as_timeline([entry(0, None), entry(100, None)], None)) == ["█", " " * 39 + "█"]
    assert " -  " in as_timeline([entry(0, None)], None)


def test_a_dead_letter_says_where_it_failed_and_an_error_is_cut() -> None:
    letter = entry(0, None, None, failed_stage="schema", error_type="ValueError", error="no amount" * 20)

    drawn = as_timeline([letter], None)

    assert "completed: schema" in drawn
    assert f"ValueError: {('no amount' * 20)[:47]}…" in drawn


def test_hostile_names_are_escaped() -> None:
    hostile = entry(0, None, "\x1b[2J", error="\x1b]0;title\x07")

    assert "\x1b" not in as_timeline([hostile], None)
