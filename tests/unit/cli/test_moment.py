"""A moment on the command line."""

from __future__ import annotations

import datetime

import click
import click.testing
import pytest

from celery_tasker_events.cli.moment import moment


@click.command()
@click.option("--since", callback=moment)
def show(since: datetime.datetime | None) -> None:
    click.echo(since and since.isoformat())


def given(text: str) -> datetime.datetime:
    result = click.testing.CliRunner().invoke(show, ["--since", text])
    assert result.exit_code == 0, result.output
    return datetime.datetime.fromisoformat(result.output.strip())


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", datetime.timedelta(seconds=90)),
        ("15m", datetime.timedelta(minutes=15)),
        ("2h", datetime.timedelta(hours=2)),
        ("7d", datetime.timedelta(days=7)),
    ],
)
def test_so_long_ago(text: str, ago: datetime.timedelta) -> None:
    before = datetime.datetime.now(datetime.timezone.utc)
    moment = given(text)
    after = datetime.datetime.now(datetime.timezone.utc)

    assert before - ago <= moment <= after - ago


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-31T10:00:00Z", "2026-01-31T10:00:00+00:00"),
        ("2026-01-31T10:00:00", "2026-01-31T10:00:00+00:00"),
        ("2026-01-31 12:00+02:00", "2026-01-31T10:00:00+00:00"),
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
    ],
)
def test_a_time_is_in_utc_unless_it_says_otherwise(text: str, utc: str) -> None:
    assert given(text).isoformat() == utc


@pytest.mark.parametrize("text", ["", "yesterday", "5", "5w", "-5m", "99999999999999d"])
def test_anything_else_is_a_wrong_call(text: str) -> None:
    result = click.testing.CliRunner().invoke(show, ["--since", text])

    assert result.exit_code == 2
    assert "is no moment: give how long ago (90s, 15m, 2h, 7d) or a time" in result.output
