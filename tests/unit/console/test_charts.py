"""Charts: what is drawn of a series, and what is said of it."""

from __future__ import annotations

import datetime

from celery_tasker_events.console.charts import HEIGHT, POINTS, ROWS, WIDTH, charts_of, line_chart
from celery_tasker_events.consumer.looking import Count, Queue, QueueState
from celery_tasker_events.consumer.quantities import duration, quantity
from celery_tasker_events.consumer.sampling import QueueSample, Sample

AT = datetime.datetime(2026, 1, 1, 10, tzinfo=datetime.timezone.utc)


def series(*values: float | None, step: float = 5.0) -> list[tuple[datetime.datetime, float | None]]:
    return [(AT + datetime.timedelta(seconds=step * at), value) for at, value in enumerate(values)]


def places(line: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (place.split(",") for place in line.split())]


def test_a_line_goes_from_left_to_right_and_up_with_its_values():
    chart = line_chart("depth", "Queue depth", series(0, 5, 10), quantity)

    [(x0, y0), (x1, y1), (x2, y2)] = places(chart.lines[0])
    assert x0 < x1 < x2 <= WIDTH
    assert HEIGHT > y0 > y1 > y2 >= 0
    assert y1 == (y0 + y2) / 2
    assert chart.now == "10"
    assert chart.description == "Queue depth over 10 s: now 10, lowest 0, highest 10."


def test_a_gap_is_no_line():
    chart = line_chart("rate", "Rate", series(None, 1, 2, None, 3), quantity)

    assert [len(places(line)) for line in chart.lines] == [2, 1]
    assert len(chart.areas) == 1


def test_what_is_not_known_yet_is_said_so():
    chart = line_chart("rate", "Rate", series(None), quantity)

    assert (chart.lines, chart.now) == ((), "-")
    assert chart.description == "Rate: nothing is known yet."


def test_nothing_at_all_lies_on_the_axis():
    chart = line_chart("dead", "Dead letters", series(0, 0), quantity)

    assert {y for _, y in places(chart.lines[0])} == {chart.grid[0][0]}
    assert [label for _, label in chart.grid] == ["0", "", "1"]


def test_the_axis_ends_at_a_round_number():
    assert [line_chart("n", "N", series(top), quantity).grid[-1][1] for top in (1, 3, 7, 950, 12_000)] == [
        *("1", "4", "10", "1000", "20k"),
    ]
    assert [line_chart("n", "N", series(top), duration).grid[-1][1] for top in (0, 0.4, 45, 61, 4000, 90_000)] == [
        *("1 s", "1 s", "1 min", "2 min", "2 h", "2 d"),
    ]


def test_an_hour_of_points_is_thinned_and_loses_no_peak():
    values = [1.0] * 720
    values[333] = 50.0

    chart = line_chart("depth", "Queue depth", series(*values), quantity)

    drawn = places(chart.lines[0])
    assert len(drawn) <= POINTS + 1
    assert min(y for _, y in drawn) == chart.grid[-1][0]
    assert drawn[-1][0] == max(x for x, _ in drawn)
    assert 2 <= len(chart.rows) <= ROWS
    assert chart.rows[0] == ("10:59:55", "1")


def sample(at: float, **lengths: int) -> Sample:
    states = [
        QueueState(Queue(f"{name}_domain_events", True), Count(length), Count(0), None, None, length, Count(0), None)
        for name, length in lengths.items()
    ]
    return Sample(AT + datetime.timedelta(seconds=at), tuple(QueueSample(state, None, None, None) for state in states))


def test_each_queue_of_the_last_look_has_its_charts_with_a_gap_for_when_it_was_not_there():
    [payments, stock] = charts_of([sample(0, payments=1), sample(5, payments=2), sample(10, payments=3, stock=7)])

    assert [chart.name for chart in stock.charts] == ["depth", "age", "rate", "dead"]
    assert (len(places(payments.charts[0].lines[0])), len(places(stock.charts[0].lines[0]))) == (3, 1)
    assert [chart.now for chart in stock.charts] == ["7", "0 s", "-", "0"]


def test_without_a_look_there_is_nothing():
    assert charts_of([]) == []
