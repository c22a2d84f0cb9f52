"""Progress is shown on a terminal, with rich; anywhere else nothing is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from celery_tasker_events.cli import progress
from celery_tasker_events.cli.progress import shown_progress


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs something with progress; returns what was written."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    def run_on(*, terminal: bool, patience: float = -1) -> Any:
        # Here and not in the set-up: pytest gives each phase a stderr of its own.
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
        monkeypatch.setattr(progress, "PATIENCE", patience)
        with shown_progress() as tell:
            tell("payments_domain_events", 1, 2)
            tell("[red]audit[/red]_domain_events", 2, 2)
        return capsys.readouterr()

    return run_on


def test_a_terminal_sees_what_is_being_done_and_how_much_of_it(run: Any) -> None:
    written = run(terminal=True)

    assert written.out == ""
    assert "[red]audit[/red]_domain_events" in written.err
    assert "100%" in written.err


def test_a_short_run_shows_nothing(run: Any) -> None:
    assert run(terminal=True, patience=3600) == ("", "")


def test_what_is_no_terminal_sees_nothing(run: Any) -> None:
    assert run(terminal=False) == ("", "")


def test_without_rich_nothing_is_shown_and_nothing_fails(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)

    assert run(terminal=True) == ("", "")
