"""The same on servers that many run in production: RabbitMQ, Redis, and Postgres over TCP."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from queues import messages, names
from services import POSTGRES, RABBITMQ, REDIS, Service, url_of

from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import set_up


@pytest.fixture
def tcp_dsn():
    """A database of its own, with PGMQ, on a Postgres that is reached over TCP."""
    server = url_of(POSTGRES)
    name = f"tasker_events_test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        dsn = make_conninfo(server, dbname=name)
        with connect(dsn) as inside:
            set_up(inside, ())
        yield dsn
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.mark.parametrize(("service", "backend"), [(RABBITMQ, "rpc://"), (REDIS, None)], ids=["rabbitmq", "redis"])
def test_events_arrive_whatever_the_broker(shop, dsn, service: Service, backend: str | None):
    url = url_of(service)
    queue = f"tasker_events_test_{uuid.uuid4().hex}"
    shop.settings.clear()
    shop.settings.update(broker_url=url, result_backend=backend or url, task_default_queue=queue)
    shop.client = type(shop.client)("producer", set_as_current=False)
    shop.client.conf.update(shop.settings)

    worker = shop.start(dsn=dsn)
    assert shop.send("pay", 1, fail_attempts=1).get(timeout=30) == {"order": 1, "transaction_id": "TXN-1"}
    assert worker.stop() == 0
    with shop.client.connection_for_write() as connection:
        connection.default_channel.queue_delete(queue)

    assert {"payment.retried", "payment.processed"} <= set(names(messages(dsn, "payments")))


def test_events_arrive_over_tcp(shop, tcp_dsn):
    worker = shop.start(dsn=tcp_dsn)
    shop.send("pay", 1).get(timeout=30)
    assert worker.stop() == 0

    assert "payment.processed" in names(messages(tcp_dsn, "payments"))
