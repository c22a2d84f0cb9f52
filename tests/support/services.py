"""Finds the servers that some tests need: by environment variable, else on their standard ports."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

import pytest


class Service(NamedTuple):
    """A server that tests use where there is one."""

    name: str
    variable: str
    port: int
    default: str

    def url(self) -> str | None:
        """Where it is, or None if there is none."""
        if given := os.environ.get(self.variable):
            return given
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return None
        return self.default


RABBITMQ = Service("RabbitMQ", "TEST_RABBITMQ_URL", 5672, "amqp://guest:guest@127.0.0.1:5672//")
REDIS = Service("Redis", "TEST_REDIS_URL", 6379, "redis://127.0.0.1:6379/15")
POSTGRES = Service("Postgres over TCP", "TEST_POSTGRES_DSN", 5432, "postgresql://postgres@127.0.0.1:5432/postgres")

_SKIPPED = "needs a server: "


def url_of(service: Service) -> str:
    """The service's URL; skips the test if there is none."""
    url = service.url()
    if url is None:
        pytest.skip(f"{_SKIPPED}{service.name}, {service.variable} or 127.0.0.1:{service.port}")
    return url


def summary_of(reports: list[pytest.TestReport]) -> str | None:
    """One line about the tests that were skipped because of missing servers, and how to get them run; None if none."""
    reasons = [report.longrepr[2] for report in reports if isinstance(report.longrepr, tuple) and _SKIPPED in report.longrepr[2]]
    if not reasons:
        return None
    wanted = sorted({reason.partition(_SKIPPED)[2] for reason in reasons})
    return f"{len(reasons)} tests skipped for want of servers; to run them, start or set: {'; '.join(wanted)}"
