"""The same on servers that many run in production: RabbitMQ, Redis, and Postgres over TCP."""

from __future__ import annotations

import pytest
from queues import messages, names
from services import RABBITMQ, REDIS, Service, url_of


@pytest.mark.parametrize("service", [RABBITMQ, REDIS], ids=lambda service: service.name)
def test_events_arrive_whatever_the_broker(shop, dsn, service: Service):
    shop.use_broker(url_of(service))
    worker = shop.start(dsn=dsn)
    assert shop.send("pay", 1, fail_attempts=1).get(timeout=30) == {"order": 1, "transaction_id": "TXN-1"}
    assert worker.stop() == 0

    assert {"payment.retried", "payment.processed"} <= set(names(messages(dsn, "payments")))


def test_events_arrive_over_tcp(shop, tcp_dsn):
    worker = shop.start(dsn=tcp_dsn)
    shop.send("pay", 1).get(timeout=30)
    assert worker.stop() == 0

    assert "payment.processed" in names(messages(tcp_dsn, "payments"))
