"""A consumer handles events: by which handlers, how it starts and stops, and what becomes of what was handled."""

from __future__ import annotations

import asyncio
import json
import signal
import threading

import pytest
from consuming import Running, event, rows, send
from queues import messages
from worker_process import wait_until

from celery_tasker_events import ConfigurationError, PgmqMissing, envelope
from celery_tasker_events.consumer import Consumer


def test_every_event_is_handled_and_deleted(dsn):
    send(dsn, [event(number, f"w{number % 3}") for number in range(30)])
    consumer, seen = Consumer(dsn, "payments"), []

    @consumer.on("payment.*")
    def handle(event):
        seen.append((event.metadata.task_uuid, event.payload))

    consumer.run(until_empty=True)

    assert sorted(seen) == sorted((f"w{number % 3}", number) for number in range(30))
    assert messages(dsn, "payments") == []
    assert rows(dsn, "msg_id", table="a") == []
    assert consumer.statistics()["received"] == consumer.statistics()["handled"] == 30


@pytest.mark.parametrize("name", envelope.NAMES)
def test_events_of_every_envelope_are_handled_alike(dsn, name):
    sent = event(1)
    send(dsn, [sent], name)
    consumer, seen = Consumer(dsn, "payments"), []
    consumer.on("*")(seen.append)

    consumer.run(until_empty=True)

    assert seen == [sent]


def test_handled_events_can_be_archived(dsn):
    send(dsn, [event(1), event(2)])
    consumer = Consumer(dsn, "payments", on_success="archive")
    consumer.on("*")(lambda event: None)

    consumer.run(until_empty=True)

    assert messages(dsn, "payments") == []
    assert rows(dsn, "message->>'payload'", table="a") == ["1", "2"]


def test_one_consumer_reads_several_namespaces(dsn):
    send(dsn, [event(1), event(2, namespace="audit"), event(3, namespace="audit"), event(4)])
    consumer, seen = Consumer(dsn, "payments", "audit_domain_events"), []
    consumer.on("*")(lambda event: seen.append((event.metadata.namespace, event.payload)))

    consumer.run(until_empty=True)

    assert sorted(seen) == [("audit", 2), ("audit", 3), ("payments", 1), ("payments", 4)]


def test_async_handlers_run_beside_each_other_on_one_loop(dsn):
    send(dsn, [event(number, f"w{number}") for number in range(3)])
    consumer = Consumer(dsn, "payments", concurrency=3)
    loops, waiting = set(), []

    @consumer.on("*")
    async def handle(event):
        loops.add(asyncio.get_running_loop())
        waiting.append(event)
        while len(waiting) < 3:  # returns only if all three are here at the same time
            await asyncio.sleep(0.001)

    consumer.run(until_empty=True)

    assert len(loops) == 1
    assert consumer.statistics()["handled"] == 3


def test_inside_a_running_loop_coroutines_run_there_and_cancelling_stops_the_consumer(dsn):
    send(dsn, [event(1)])
    loops = []

    async def main():
        consumer, handled = Consumer(dsn, "payments"), asyncio.Event()

        @consumer.on("*")
        async def handle(event):
            loops.append(asyncio.get_running_loop())
            handled.set()

        running = asyncio.create_task(consumer.run_async())
        await handled.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert loops == [asyncio.get_running_loop()]

    asyncio.run(main())

    assert messages(dsn, "payments") == []


@pytest.mark.parametrize(("unmatched", "kept"), [("archive", ["1"]), ("delete", [])])
def test_what_no_handler_is_for_is_put_away(dsn, unmatched, kept):
    send(dsn, [event(1, name="payment.flagged"), event(2, name="payment.card.declined"), event(3)])
    consumer, seen = Consumer(dsn, "payments", unmatched=unmatched), []
    consumer.on("payment.processed")(lambda event: seen.append(event.payload))
    consumer.on("*.card.*")(lambda event: seen.append(event.payload))

    consumer.run(until_empty=True)

    assert seen == [2, 3]
    assert messages(dsn, "payments") == []
    assert rows(dsn, "message->>'payload'", table="a") == kept
    assert consumer.statistics()["unmatched"] == 1


def test_what_no_handler_is_for_can_become_a_dead_letter(dsn):
    send(dsn, [event(1, name="payment.flagged")])
    consumer = Consumer(dsn, "payments", unmatched="dead_letter")
    consumer.on("payment.processed")(lambda event: None)

    consumer.run(until_empty=True)

    (letter,) = messages(dsn, "payments", dead_letters=True)
    assert letter["failed_stage"] == "unmatched"
    assert json.loads(letter["message_text"])["payload"] == 1


def test_all_handlers_that_an_event_has_are_called_and_all_see_it_again_if_one_fails(dsn):
    send(dsn, [event(1)])
    consumer, seen = Consumer(dsn, "payments", backoff=lambda attempt: 0), []

    @consumer.on("payment.*", "*")
    def first(event):
        seen.append("first")

    @consumer.on("payment.processed", with_delivery=True)
    def second(event, delivery):
        seen.append("second")
        if delivery.attempt == 1:
            raise RuntimeError

    consumer.run(until_empty=True)

    assert seen == ["first", "second"] * 2


def test_a_handler_is_told_all_about_the_message(dsn):
    send(dsn, [event(1)])
    consumer, deliveries = Consumer(dsn, "payments"), []
    consumer.on("*", with_delivery=True)(lambda event, delivery: deliveries.append(delivery))
    (row,) = rows(dsn, "msg_id, enqueued_at, message::text, headers")

    consumer.run(until_empty=True)

    (delivery,) = deliveries
    assert (delivery.message_id, delivery.enqueued_at, delivery.body, delivery.headers) == row
    assert (delivery.queue, delivery.attempt) == ("payments_domain_events", 1)


def test_a_stopped_consumer_ends_its_handlers_and_gives_the_rest_back_at_once(dsn):
    send(dsn, [event(number, f"w{number}") for number in range(20)])
    consumer = Consumer(dsn, "payments", ordered=False)

    @consumer.on("*")
    def handle(event):
        if event.payload == 9:
            consumer.stop()

    consumer.run()

    assert [message["payload"] for message in messages(dsn, "payments")] == list(range(10, 20))
    assert rows(dsn, "vt <= clock_timestamp()") == [True] * 10
    assert consumer.statistics()["handled"] == 10


def test_a_coroutine_that_outstays_the_stop_is_cancelled_and_its_event_given_back(dsn):
    send(dsn, [event(1)])
    consumer, ended = Consumer(dsn, "payments", shutdown_timeout=0.1), []

    @consumer.on("*")
    async def handle(event):
        consumer.stop()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    consumer.run()

    assert ended == [True]
    assert rows(dsn, "read_ct, vt <= clock_timestamp()") == [(1, True)]


def test_a_function_that_outstays_the_stop_is_left_behind_and_its_event_comes_again_later(dsn, caplog):
    send(dsn, [event(1)])
    consumer, release = Consumer(dsn, "payments", shutdown_timeout=0), threading.Event()

    @consumer.on("*")
    def handle(event):
        consumer.stop()
        release.wait(60)

    consumer.run()
    release.set()

    assert "ends without 1 events" in caplog.text
    assert rows(dsn, "vt > clock_timestamp()") == [True]


def test_signals_stop_it_in_the_main_thread_and_do_what_they_did_before_afterwards(dsn):
    send(dsn, [event(1)])
    consumer = Consumer(dsn, "payments")
    before = signal.getsignal(signal.SIGTERM)
    consumer.on("*")(lambda event: signal.raise_signal(signal.SIGTERM))

    consumer.run()

    assert messages(dsn, "payments") == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_queue_that_is_made_later_is_waited_for(dsn, caplog):
    consumer, handled = Consumer(dsn, "payment", "payments", poll_interval=0.05), threading.Event()
    consumer.on("*")(lambda event: handled.set())
    send(dsn, [event(1, namespace="other")])

    with Running(consumer):
        wait_until(lambda: "Queue payments_domain_events does not exist yet" in caplog.text, "it is told")
        assert "Known: other." in caplog.text
        send(dsn, [event(1)])
        wait_until(handled.is_set, "the event is handled")
        wait_until(lambda: "Queue payments_domain_events exists now" in caplog.text, "it is told")

    assert caplog.text.count("payments_domain_events does not exist yet") == 1


def test_until_empty_a_missing_queue_is_an_error(dsn):
    consumer = Consumer(dsn, "payments")
    consumer.on("*")(lambda event: None)

    with pytest.raises(ConfigurationError, match="there is no queue payments_domain_events"):
        consumer.run(until_empty=True)


def test_until_empty_one_missing_queue_of_several_is_an_error_after_the_others_are_empty(dsn):
    send(dsn, [event(number) for number in range(3)])
    consumer, seen = Consumer(dsn, "payments", "audit"), []
    consumer.on("*")(lambda event: seen.append(event.payload))

    with pytest.raises(ConfigurationError, match="there is no queue audit_domain_events"):
        consumer.run(until_empty=True)

    assert seen == [0, 1, 2]
    assert messages(dsn, "payments") == []


def test_a_run_that_ends_with_an_error_leaves_no_event_loop_behind(dsn):
    send(dsn, [event(1)])
    consumer, seen = Consumer(dsn, "payments", "audit"), []

    @consumer.on("*")
    async def handle(event):
        seen.append(event.payload)

    with pytest.raises(ConfigurationError):
        consumer.run(until_empty=True)

    assert seen == [1]
    assert "tasker-events-loop" not in [thread.name for thread in threading.enumerate()]


def test_a_database_without_pgmq_is_an_error(bare_dsn):
    consumer = Consumer(bare_dsn, "payments")
    consumer.on("*")(lambda event: None)

    with pytest.raises(PgmqMissing):
        consumer.run()


def test_one_consumer_does_not_run_twice_at_once_but_again(dsn):
    send(dsn, [event(1)])
    consumer, handled = Consumer(dsn, "payments"), threading.Event()
    consumer.on("*")(lambda event: handled.set())

    with Running(consumer):
        wait_until(handled.is_set, "it runs")
        with pytest.raises(RuntimeError, match="runs already"):
            consumer.run()
    send(dsn, [event(2)])
    consumer.run(until_empty=True)

    assert consumer.statistics()["handled"] == 2


def test_a_handler_that_raises_system_exit_has_failed_and_no_more(dsn):
    send(dsn, [event(1), event(2, "other")])
    consumer, seen = Consumer(dsn, "payments", max_attempts=1), []

    @consumer.on("*")
    def handle(event):
        seen.append(event.payload)
        raise SystemExit(3)

    consumer.run(until_empty=True)

    assert sorted(seen) == [1, 2]
    assert consumer.statistics()["dead_lettered"] == 2
