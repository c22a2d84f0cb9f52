"""A gauge: the value that was read last is the one after the last change, and nobody waits."""

from __future__ import annotations

import itertools
import threading

from celery_tasker_events.telemetry.gauge import Gauge, is_worth_telling
from celery_tasker_events.telemetry.sheet import Sheet

LONG = 30.0


def test_a_gauge_writes_down_what_it_reads() -> None:
    sheet = Sheet()
    gauge = Gauge(sheet, "depth", "command", read=lambda: 5)

    assert sheet.values() == {}
    gauge.update()

    assert sheet.values() == {("gauge", "depth", "command"): 5}


def test_an_update_during_another_does_not_wait_and_the_later_value_stays() -> None:
    values = [1]
    reading, go_on = threading.Event(), threading.Event()

    def read() -> int:
        value = values[-1]
        reading.set()
        assert go_on.wait(LONG)
        return value

    sheet = Sheet()
    gauge = Gauge(sheet, "depth", read=read)
    first = threading.Thread(target=gauge.update)
    first.start()
    assert reading.wait(LONG)

    values.append(2)
    gauge.update()  # returns while the first one still reads the old value
    go_on.set()
    first.join(LONG)

    assert sheet.values() == {("gauge", "depth"): 2}


def test_many_threads_leave_the_last_value() -> None:
    waiting = [0]
    lock = threading.Lock()
    sheet = Sheet()
    gauge = Gauge(sheet, "depth", read=lambda: waiting[0])

    def put_and_take() -> None:
        for change in (1, -1) * 500:
            with lock:
                waiting[0] += change
            gauge.update()

    threads = [threading.Thread(target=put_and_take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)

    assert sheet.values() == {("gauge", "depth"): 0}


def test_a_read_that_fails_does_not_block_the_next() -> None:
    answers = iter([ZeroDivisionError(), 3])

    def read() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    sheet = Sheet()
    gauge = Gauge(sheet, "depth", read=read)
    try:
        gauge.update()
    except ZeroDivisionError:
        pass
    gauge.update()

    assert sheet.values() == {("gauge", "depth"): 3}


def test_what_is_worth_telling_of_a_depth_is_right_within_an_eighth_and_seldom_told() -> None:
    told = [depth for depth in range(100_001) if is_worth_telling(depth)]

    assert told[:33] == list(range(33))
    assert all(later - earlier <= later / 8 for earlier, later in itertools.pairwise(told[32:]))
    assert len(told) < 200
