"""Runs ``replay`` on a test's database, and tells what it has sent."""

from __future__ import annotations

import json
from typing import Any

import click.testing
import psycopg

from celery_tasker_events.cli.main import main


def replay(dsn: str, *arguments: str, answer: str | None = None) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["replay", "--dsn", dsn, *arguments], input=answer)


def replayed(dsn: str, *arguments: str) -> dict[str, Any]:
    """What a replay that went well says of itself."""
    result = replay(dsn, *arguments, "--format", "json", "--yes")
    assert result.exit_code == 0, result.output
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def in_queue(dsn: str, namespace: str = "payments") -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The messages of a queue with their headers, the oldest first."""
    with psycopg.connect(dsn) as connection:
        statement = f"select message, headers from pgmq.q_{namespace}_domain_events order by msg_id"
        return connection.execute(statement).fetchall()
