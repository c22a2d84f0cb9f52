"""The commands that look at queues, called wrongly: exit code 2 and what to do, before any database is asked."""

from __future__ import annotations

from typing import Any

import pytest

DSN = ("--dsn", "postgresql://me:s3cret@127.0.0.1:1/none")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("tail", "payments", "--event", "payment"), "bad pattern 'payment'"),
        (("tail", "payments", "--outcome", "great"), "'great' is not one of"),
        (("tail", "payments", "-n", "-1"), "-1 is not in the range"),
        (("tail", "payments", "--interval", "0"), "is not in the range"),
        (("trace", "order-1", "--since", "lately"), "'lately' is no moment"),
        (("trace",), "Missing argument 'CORRELATION_ID'"),
        (("show",), "Missing argument 'EVENT_ID'"),
        (("queues", "--format", "xml"), "'xml' is not one of"),
    ],
)
def test_a_wrong_call_is_told(run_alone: Any, arguments: tuple[str, ...], complaint: str) -> None:
    result = run_alone(*arguments, *DSN)

    assert result.exit_code == 2
    assert complaint in result.output


@pytest.mark.parametrize("arguments", [("queues",), ("tail", "payments"), ("tail", "-f"), ("show", "1"), ("trace", "1")])
def test_a_database_that_can_not_be_reached_is_told_without_its_password(run_alone: Any, arguments: tuple[str, ...]) -> None:
    result = run_alone(*arguments, *DSN)

    assert result.exit_code == 1
    assert "Error: user=me password=*** dbname=none host=127.0.0.1 port=1 (--dsn): connection failed" in result.output
    assert "s3cret" not in result.output
    assert "Traceback" not in result.output
