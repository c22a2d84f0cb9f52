"""The commands of the page about forwarding do what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from consuming import event, send
from forwarding import BrokerQueue
from kombu import Connection, Queue
from pages import blocks
from queues import messages
from services import RABBITMQ, REDIS, url_of

BLOCKS = blocks("how-to/forward-events.md")
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="


@pytest.fixture
def run(dsn: str) -> Callable[..., str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(block: str, **variables: str) -> str:
        send(dsn, [event(1, "a"), event(2, "b", name="payment.failed")])
        environment = {**os.environ, "DATABASE_URL": dsn, "PATH": path, **variables}
        done = subprocess.run(
            ["sh", "-c", BLOCKS[block]], env=environment, check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert messages(dsn, "payments") == []
        return done.stdout

    return run


def test_every_block_of_the_page_is_run_by_a_test():
    assert set(BLOCKS) == {"rabbitmq.sh", "redis.sh", "webhook.sh", "verify.py", "celery.sh", "crm.py", "some.sh"}


@pytest.mark.parametrize(
    ("block", "variable", "service", "name"),
    [("rabbitmq.sh", "AMQP_URL", RABBITMQ, "all_payments"), ("redis.sh", "REDIS_URL", REDIS, "shop_events")],
)
def test_brokers(run, block, variable, service, name):
    queue = BrokerQueue(url_of(service))
    queue.name = name
    try:
        run(block, **{variable: queue.url})
        assert sorted(body["payload"] for body in queue.receive()) == [1, 2]
    finally:
        queue.delete()
        queue.name = "shop_events"
        queue.delete()


def test_a_webhook_and_its_check(run, receiver):
    page: dict[str, Callable[..., bool]] = {}
    exec(BLOCKS["verify.py"], page)
    run("webhook.sh", WEBHOOK_URL=receiver.url, WEBHOOK_SECRET=SECRET)

    assert len(receiver.requests) == 2
    for headers, body, _ in receiver.requests:
        assert page["is_genuine"](headers, body, SECRET)
        assert not page["is_genuine"](headers, body + b" ", SECRET)


def test_a_task_of_another_app(run):
    broker = url_of(RABBITMQ)
    page: dict[str, object] = {}
    exec(BLOCKS["crm.py"], page)
    run("celery.sh", CRM_BROKER=broker)
    with Connection(broker) as connection:
        queue = Queue("crm")(connection.channel())
        sent = [queue.get(no_ack=True) for _ in range(2)]
        queue.delete()
        connection.channel().exchange_delete("crm")

    assert {message.headers["task"] for message in sent} == {page["book"].name}
    assert sorted(json.loads(message.body)[0][0]["payload"] for message in sent) == [1, 2]


def test_some_events(run):
    assert [json.loads(line)["payload"] for line in run("some.sh").splitlines()] == [2]
