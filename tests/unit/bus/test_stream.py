"""Pull streams: a reader takes events at its own pace, and learns what it was too slow for."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from celery_tasker_events.bus.stream import EventStream
from celery_tasker_events.errors import StreamClosed

from ..making import make_event
from .bench import LONG, Bench, StuckLog, exit_code_of_a_forked_child
from .conftest import NewBench


def publish(bench: Bench, *payloads: Any, name: str = "payment.processed") -> None:
    for payload in payloads:
        bench.bus.publish(make_event(name, payload=payload))


def open_stream(
    bench: Bench, *patterns: str, size: int | None = None, on_lag: Callable[[int], object] | None = None
) -> EventStream:
    return bench.bus.streams.open(patterns or ("*",), size, on_lag)


def test_a_stream_gives_the_events_that_match_in_order(bench: Bench) -> None:
    stream = open_stream(bench, "payment.*", "order.placed")

    publish(bench, 1)
    publish(bench, 2, name="order.placed")
    publish(bench, 3, name="order.cancelled")
    publish(bench, 4)

    assert [stream.get(timeout=LONG).payload for _ in range(3)] == [1, 2, 4]


def test_every_stream_gets_every_event_and_no_thread_is_started(bench: Bench, our_threads: Callable[[], set[str]]) -> None:
    streams = [open_stream(bench) for _ in range(3)]

    publish(bench, 1)

    assert [stream.get(timeout=0).payload for stream in streams] == [1, 1, 1]
    assert our_threads() == set()


def test_a_stream_has_what_comes_after_it_was_opened(bench: Bench) -> None:
    first = open_stream(bench)
    publish(bench, 1)
    second = open_stream(bench)
    publish(bench, 2)

    assert [first.get(timeout=0).payload for _ in range(2)] == [1, 2]
    assert second.get(timeout=0).payload == 2


def test_a_reader_waits_for_the_next_event(bench: Bench) -> None:
    stream = open_stream(bench)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: [event.payload for event in stream])
        publish(bench, 1, 2)
        bench.bus.close(LONG)
        assert reading.result(LONG) == [1, 2]


def test_a_reader_waits_no_longer_than_it_wants_to(bench: Bench) -> None:
    stream = open_stream(bench, "payment.*")

    with pytest.raises(TimeoutError, match=r"no event for the stream 'payment\.\*' within 0\.01 s"):
        stream.get(timeout=0.01)
    with pytest.raises(TimeoutError):
        asyncio.run(stream.aget(timeout=0.01))
    assert not stream._buffer._sleepers  # else a reader that polls would fill the memory while no event comes
    publish(bench, 1)
    assert asyncio.run(stream.aget(timeout=0)).payload == 1


def test_a_coroutine_reads_while_its_loop_goes_on(bench: Bench) -> None:
    stream = open_stream(bench)

    async def read() -> list[Any]:
        return [event.payload async for event in stream]

    async def main() -> list[Any]:
        reading = asyncio.create_task(read())
        for number in range(3):
            await asyncio.to_thread(publish, bench, number)
        await asyncio.to_thread(bench.bus.close, LONG)
        return await asyncio.wait_for(reading, LONG)

    assert asyncio.run(main()) == [0, 1, 2]


def test_a_coroutine_that_is_cancelled_while_it_waits_loses_no_event(bench: Bench) -> None:
    stream = open_stream(bench)

    async def main() -> Any:
        reading = asyncio.create_task(stream.aget())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        publish(bench, 1)
        return (await stream.aget(timeout=LONG)).payload

    assert asyncio.run(main()) == 1


def test_waiting_in_vain_again_and_again_leaves_nothing_behind(bench: Bench) -> None:
    stream = open_stream(bench)

    async def wait_in_vain() -> None:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await stream.aget(timeout=0)

    asyncio.run(wait_in_vain())

    assert stream._buffer._sleepers == set()


def test_a_reader_whose_event_loop_is_gone_disturbs_nobody(bench: Bench) -> None:
    stream = open_stream(bench)
    loop = asyncio.new_event_loop()
    reading = loop.create_task(stream.aget())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    publish(bench, 1)

    assert stream.get(timeout=0).payload == 1
    reading._log_destroy_pending = False


def test_a_slow_reader_loses_the_oldest_and_learns_how_many_before_it_reads_on(bench: Bench) -> None:
    told: list[object] = []
    stream = open_stream(bench, size=2, on_lag=lambda lost: told.append(("lost", lost)))
    publish(bench, 1, 2, 3, 4, 5)

    for _ in range(2):
        told.append(stream.get(timeout=0).payload)
    publish(bench, 6, 7, 8)
    for _ in range(2):
        told.append(asyncio.run(stream.aget(timeout=0)).payload)

    assert told == [("lost", 3), 4, 5, ("lost", 1), 7, 8]
    assert stream.lagged == 4
    assert bench.count("dropped", "stream lagged") == 4


def test_a_lag_handler_that_raises_reaches_the_reader_and_costs_no_event(bench: Bench) -> None:
    def refuse(lost: int) -> None:
        raise OverflowError(lost)

    stream = open_stream(bench, size=1, on_lag=refuse)
    publish(bench, 1, 2)

    with pytest.raises(OverflowError, match="1"):
        stream.get(timeout=0)
    assert stream.get(timeout=0).payload == 2


def test_a_slow_reader_costs_no_other_stream_anything(bench: Bench) -> None:
    slow, quick = open_stream(bench, size=1), open_stream(bench)

    publish(bench, 1, 2, 3)

    assert [quick.get(timeout=0).payload for _ in range(3)] == [1, 2, 3]
    assert (quick.lagged, slow.lagged) == (0, 2)


@pytest.mark.parametrize(("logged", "lines"), [(True, 1), (False, 0)])
def test_a_lag_is_logged_unless_that_is_switched_off(
    new_bench: NewBench, logged: bool, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench = new_bench(log_dropped=logged)
    stream = open_stream(bench, size=1)

    with caplog.at_level(logging.WARNING):
        publish(bench, 1, 2, 3)

    assert ["events lost by event streams" in record.getMessage() for record in caplog.records] == [True] * lines
    assert stream.lagged == 2


def test_a_log_that_is_stuck_over_a_lag_holds_no_subscriber_up(bench: Bench, stuck_log: StuckLog) -> None:
    got: list[Any] = []
    bench.registry.add("*", lambda event: got.append(event.payload))
    stream = open_stream(bench, size=1)

    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish, bench, 1, 2)
        assert stuck_log.entered.wait(LONG)
        assert bench.bus.drain(LONG)
        assert got == [1, 2]
        assert stream.get(timeout=0).payload == 2
        assert stuck_log.written == []
        stuck_log.open.set()
        publishing.result(LONG)


def test_the_buffer_is_as_large_as_that_of_the_bus_unless_told_otherwise(new_bench: NewBench) -> None:
    bench = new_bench(buffer_size=3)
    default, small = open_stream(bench), open_stream(bench, size=1)

    publish(bench, 1, 2, 3)

    assert (default.lagged, small.lagged) == (0, 2)


def test_closing_ends_the_iteration_at_once_and_discards_what_waits(bench: Bench) -> None:
    with open_stream(bench) as stream:
        publish(bench, 1, 2, 3)
        got = []
        for event in stream:
            got.append(event.payload)
            stream.close()

    assert got == [1]
    assert stream.closed
    with pytest.raises(StreamClosed, match="has ended"):
        stream.get(timeout=LONG)
    publish(bench, 4)
    assert list(stream) == []


def test_closing_wakes_a_thread_and_a_coroutine_that_wait(bench: Bench) -> None:
    threads_stream, coroutines_stream = open_stream(bench), open_stream(bench)

    async def read() -> list[Any]:
        async with coroutines_stream as stream:
            return [event async for event in stream]

    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(lambda: list(threads_stream)), pool.submit(lambda: asyncio.run(read()))]
        threads_stream.close()
        coroutines_stream.close()
        assert [future.result(LONG) for future in reading] == [[], []]


def test_a_stream_that_is_opened_after_the_end_has_ended(bench: Bench) -> None:
    bench.bus.close(LONG)

    assert list(open_stream(bench)) == []


def test_a_stream_that_nobody_holds_any_more_is_forgotten(bench: Bench) -> None:
    stream = open_stream(bench, size=1)
    publish(bench, 1)
    assert len(bench.bus.streams.matching("payment.processed")) == 1

    del stream
    gc.collect()
    publish(bench, 2, 3)

    assert bench.bus.streams.matching("payment.processed") == ()
    assert bench.counters.total("dropped") == 0


def test_a_loop_over_an_unnamed_stream_keeps_it_open_until_it_ends(bench: Bench) -> None:
    reading = threading.Event()

    def read() -> Any:
        reading.set()
        for event in open_stream(bench):
            return event.payload
        return None

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(read)
        assert reading.wait(LONG)
        while not future.done():
            publish(bench, "heard")
        assert future.result() == "heard"
    gc.collect()
    assert bench.bus.streams.matching("payment.processed") == ()


def _ask(stream: EventStream) -> list[Any]:
    with pytest.raises(StreamClosed, match="opened before this process was forked: open it in the process that reads"):
        stream.get(timeout=0)
    return []


@pytest.mark.parametrize("read", [lambda stream: list(stream), lambda stream: asyncio.run(_collect(stream)), _ask])
def test_an_inherited_stream_has_ended_in_a_forked_child(bench: Bench, read: Callable[[EventStream], list[Any]]) -> None:
    stream = open_stream(bench)
    publish(bench, 1)

    def in_child() -> int:
        ended = read(stream) == [] and stream.closed
        stream.close()
        return 7 if ended else 8

    with stream._buffer.arrived:  # as another thread of the parent may hold it in the moment of a fork
        assert exit_code_of_a_forked_child(in_child) == 7
    assert stream.get(timeout=0).payload == 1


async def _collect(stream: EventStream) -> list[Any]:
    return [event async for event in stream]


@pytest.mark.parametrize(
    ("patterns", "size", "on_lag", "error", "told"),
    [
        (("payment",), None, None, ValueError, "bad pattern 'payment'"),
        ((["payment.*"],), None, None, ValueError, r"bad pattern \['payment\.\*'\]"),
        (("*",), 0, None, ValueError, "buffer_size must be a whole number from 1 on, not 0"),
        (("*",), 1.5, None, ValueError, "not 1.5"),
        (("*",), True, None, ValueError, "not True"),
        (("*",), 1, "warn", TypeError, "on_lag must be a function"),
    ],
)
def test_a_stream_that_can_not_be_is_refused(
    bench: Bench, patterns: Any, size: Any, on_lag: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        open_stream(bench, *patterns, size=size, on_lag=on_lag)
