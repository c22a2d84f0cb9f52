"""Finds the servers and programs that some tests need: by environment variable, on their standard ports, on the path."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

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
_SKIPPED_PROGRAM = "needs a program: "


def url_of(service: Service) -> str:
    """The service's URL; skips the test if there is none."""
    url = service.url()
    if url is None:
        pytest.skip(f"{_SKIPPED}{service.name}, {service.variable} or 127.0.0.1:{service.port}")
    return url


def path_of(program: str, package: str, folders: Iterable[str] = ("/usr/sbin", "/usr/local/sbin")) -> str:
    """The program's path; skips the test if it is not installed.

    Args:
        package: Debian's name of the package that has it.
        folders: Where it may be apart from the path: a daemon's place is not on every user's.
    """
    path = shutil.which(program) or shutil.which(program, path=os.pathsep.join(folders))
    if path is None:
        skip_without_program(f"apt-get install {package}")
    return path


def skip_without_program(how_to_get_it: str) -> NoReturn:
    """Skip the test; the summary of the run says how to get what it needs."""
    pytest.skip(f"{_SKIPPED_PROGRAM}{how_to_get_it}")


def summary_of(reports: list[pytest.TestReport]) -> str | None:
    """What was skipped because of missing servers or programs, and how to get it run, a line for each; None if nothing."""
    reasons = [report.longrepr[2] for report in reports if isinstance(report.longrepr, tuple)]
    lines = [
        f"{len(found)} tests skipped for want of {what}: {'; '.join(sorted({reason.partition(mark)[2] for reason in found}))}"
        for mark, what in (
            (_SKIPPED, "servers; to run them, start or set"),
            (_SKIPPED_PROGRAM, "programs; to run them"),
        )
        if (found := [reason for reason in reasons if mark in reason])
    ]
    return "\n".join(lines) or None
