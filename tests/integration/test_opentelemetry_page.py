"""The programs of the page about OpenTelemetry: one trace through all programs, and metrics that add up."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from http_receiver import receiving
from otlp import collecting
from pages import DOCS, blocks
from queues import messages
from worker_process import WorkerProcess, close, folder_broker, producer, wait_until

BLOCKS = blocks("how-to/opentelemetry.md")

#: Tasks that are sent beside the caller's.
MORE = 6

#: With those of the caller, which runs twice.
TASKS = MORE + 2


def write_page(folder, dsn, set_up_in="worker_process_init"):
    """Write the blocks of the page and a configuration into a folder; return the latter."""
    settings = {**folder_broker(folder / "broker"), "tasker_events_dsn": dsn}
    for name, text in BLOCKS.items():
        (folder / name).write_text(text.replace("worker_process_init", set_up_in))
    (folder / "celeryconfig.py").write_text("\n".join(f"{key} = {value!r}" for key, value in settings.items()))
    return settings


@pytest.fixture(scope="module")
def run(tmp_path_factory, new_database):
    """A worker each of whose children does one task, a caller, a forwarder and a consumer, and what the collector got of them."""
    folder, dsn = tmp_path_factory.mktemp("page"), new_database()
    settings = write_page(folder, dsn)
    with collecting() as collector, receiving() as receiver:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
            "WEBHOOK_URL": receiver.url,
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
            "NO_PROXY": "127.0.0.1",
            "DATABASE_URL": dsn,
            "PYTHONUNBUFFERED": "1",
        }
        options = {"cwd": folder, "env": {**os.environ, **environment}, "text": True}
        worker = WorkerProcess("shop", folder, folder / "worker.log", environment, "--max-tasks-per-child", "1")
        client = producer(settings)
        try:
            worker.start()
            subprocess.run([sys.executable, "checkout.py"], check=True, timeout=120, **options)
            forwarder = subprocess.Popen([sys.executable, "forwarding.py"], **options)
            wait_until(lambda: receiver.taken, "the event is forwarded", 60)
            wait_until(lambda: messages(dsn, "payments") == [], "it is settled")
            forwarder.send_signal(signal.SIGTERM)
            assert forwarder.wait(60) == 0
            subprocess.run([sys.executable, "checkout.py"], check=True, timeout=120, **options)
            for result in [client.send_task("shop.process_payment", [number]) for number in range(MORE)]:
                result.get(timeout=120)
            assert worker.stop() == 0
        finally:
            worker.kill()
            close(client)
        queued = messages(dsn, "payments")
        consumer = subprocess.Popen([sys.executable, "bookkeeping.py"], stdout=subprocess.PIPE, **options)
        booked = [consumer.stdout.readline() for _ in range(MORE + 1)]
        consumer.send_signal(signal.SIGTERM)
        consumer.communicate(timeout=60)
        assert consumer.returncode == 0
        yield SimpleNamespace(collector=collector, requests=receiver.requests, queued=queued, booked=booked, log=worker.log)


def test_every_block_of_the_page_is_run():
    assert set(BLOCKS) == {"observe.py", "shop.py", "checkout.py", "bookkeeping.py", "forwarding.py"}


@pytest.mark.parametrize(("before", "last"), [("The trace is then", "process"), ("in the consumer's place", "forward")])
def test_one_trace_leads_from_the_caller_through_the_task_and_the_event_to_who_takes_it(run, before, last):
    trees = [_tree_below(root, run.collector.spans) for root in run.collector.spans if root.name == "checkout"]

    page = [line.lstrip("└ ").split() for line in _tree_of_page(before)]
    [tree] = [tree for tree in trees if tree[-1].name.startswith(last)]
    assert [(span.name, span.service) for span in tree] == [(" ".join(words[:-1]), words[-1]) for words in page]
    assert len(tree) == 5
    assert len({span.trace_id for span in tree}) == 1


def test_a_webhook_names_the_forwarders_span(run):
    [span] = [span for span in run.collector.spans if span.service == "forwarder"]

    [(headers, _, _)] = run.requests
    assert headers["traceparent"].split("-")[1:3] == [span.trace_id, span.span_id]


def _tree_below(root, spans):
    found = [root]
    while children := [child for child in spans if child.parent_id == found[-1].span_id]:
        [child] = children
        found.append(child)
    return found


def _tree_of_page(before):
    text = (DOCS / "how-to" / "opentelemetry.md").read_text()
    return text.partition(f"{before}\n\n```\n")[2].partition("\n```")[0].splitlines()


def test_no_span_of_a_recycled_child_is_missing(run):
    names = Counter(span.name for span in run.collector.spans)

    assert names["run/shop.process_payment"] == names["publish payment.processed"] == TASKS
    assert names["process payment.processed"] == MORE + 1


def test_the_deltas_of_all_processes_add_up_to_what_is_in_the_queue(run):
    points = [
        point
        for point in run.collector.points
        if point.name == "tasker.domain_events.published.total" and point.attributes["event_name"] == "payment.processed"
    ]

    assert sum(point.value for point in points) == len(run.queued) + 1 == TASKS
    assert all(point.is_delta for point in points)
    assert len({point.instance for point in points}) == TASKS, "each process tells apart what it counts"


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_pools_without_children_are_set_up_as_the_page_says(pool, dsn, tmp_path):
    if pool == "gevent" and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed: pip install 'celery[gevent]'")
    settings = write_page(tmp_path, dsn, "worker_process_init" if pool == "solo" else "celeryd_init")
    with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "NO_PROXY": "127.0.0.1"}
        worker = WorkerProcess("shop", tmp_path, tmp_path / "worker.log", environment, pool=pool)
        client = producer(settings)
        try:
            worker.start()
            for result in [client.send_task("shop.process_payment", [number]) for number in range(MORE)]:
                result.get(timeout=120)
            assert worker.stop() == 0
        finally:
            worker.kill()
            close(client)

    names = Counter(span.name for span in collector.spans)
    assert (names["run/shop.process_payment"], names["publish payment.processed"]) == (MORE, MORE)
