"""Bench: what every benchmark is given: a database, brokers where they run, and how long to measure."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from psycopg import conninfo, sql

from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import set_up

__all__ = ["Bench"]

T = TypeVar("T")

#: Name, variable, port and URL of each broker.
_BROKERS = (
    ("RabbitMQ", "BENCH_RABBITMQ", 5672, "amqp://guest:guest@127.0.0.1:5672//"),
    ("Redis", "BENCH_REDIS", 6379, "redis://127.0.0.1:6379/14"),
)


@dataclass
class Bench:
    """Where and how much to measure.

    Attributes:
        dsn: A server's database in which others may be made.
        folder: For files, until the benchmarks end.
        rounds: How often each contestant is measured.
        quick: Whether it only has to run, and the figures mean little.
    """

    dsn: str
    folder: Path
    rounds: int
    quick: bool
    _numbers: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    def times(self, full: int) -> int:
        """How often to repeat what is repeated that many times in full."""
        return max(10, full // 20) if self.quick else full

    def sizes(self, full: Sequence[T]) -> Sequence[T]:
        """Which sizes to measure: of many, a quick look takes the first two."""
        return full[:2] if self.quick else full

    def new_database(self, *queues: str) -> str:
        """Make a database of its own for one contestant; return its DSN."""
        name = f"bench_{os.getpid()}_{next(self._numbers)}"
        with connect(self.dsn) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        dsn = conninfo.make_conninfo(self.dsn, dbname=name)
        with connect(dsn) as connection:
            set_up(connection, queues)
        return dsn

    @property
    def postgres_version(self) -> str:
        with connect(self.dsn) as connection:
            return str(connection.execute("show server_version").fetchone()[0])  # type: ignore[index]  # show returns a row

    @property
    def brokers(self) -> dict[str, str]:
        """URLs of the brokers that answer on their standard ports, or where BENCH_RABBITMQ and BENCH_REDIS say."""
        urls = {
            name: os.environ.get(variable) or (default if _answers(port) else "") for name, variable, port, default in _BROKERS
        }
        return {name: url for name, url in urls.items() if url}


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
