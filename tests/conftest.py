"""Fixtures for every test that needs a real Postgres: one embedded server a process, a fresh database a test."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from services import summary_of

from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres

# Our own plugin is there by its name, however this package is installed; its tests run pytest themselves.
pytest_plugins = ["celery_tasker_events.testing.plugin", "pytester"]

# A shell's background job ignores Ctrl-C, and so would every program that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_numbers = itertools.count()

# Where the spool of a test's process, or of a process that it starts, is: never in the home of who runs the tests.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)


def _roomy_memory() -> str | None:
    """A folder in memory, where there is one with room: hundreds of databases are made and deleted, a thousand files each."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 4 * 1024**3 else None


def _server() -> EmbeddedPostgres:
    # Not under pytest's own folder: run as root, pytest closes that folder to the user that Postgres runs as whenever
    # another session starts.
    return EmbeddedPostgres(Path(tempfile.mkdtemp(prefix="pg-", dir=_roomy_memory())), delete=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """An embedded server with a template database that has PGMQ."""
    with _server() as server:
        server.create_database("with_pgmq")
        yield server


@pytest.fixture(scope="session")
def real_pgmq_server(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """Our plugin's fixture, with the server that is there."""
    return postgres


@pytest.fixture(scope="session")
def new_database(postgres: EmbeddedPostgres) -> Callable[..., str]:
    """Makes a fresh database, as a copy of a template, and returns its DSN."""

    def create(template: str = "with_pgmq") -> str:
        name = f"test_{next(_numbers)}"
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            connection.execute(f'create database "{name}" template "{template}" strategy file_copy')
        return postgres.database_dsn(name)

    return create


@pytest.fixture
def dsn(new_database: Callable[..., str]) -> Iterator[str]:
    """DSN of a fresh database with PGMQ and no queues."""
    yield (made := new_database())
    _drop(made)


@pytest.fixture
def bare_dsn(new_database: Callable[..., str]) -> Iterator[str]:
    """DSN of a fresh database without PGMQ."""
    yield (made := new_database("template1"))
    _drop(made)


def _drop(dsn: str) -> None:
    name = conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)')


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, which it may break."""
    with _server() as server:
        server.set_up()
        yield server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(str(text))
    if line := summary_of(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(line, yellow=True)
