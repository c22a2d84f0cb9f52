"""Runs commands in this process, as Celery or the program of our own would."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click.testing
import pytest
from celery import Celery
from celery.bin.base import CLIContext

from celery_tasker_events.cli.celery_command import domain_events
from celery_tasker_events.cli.main import main

Run = Callable[..., click.testing.Result]


@pytest.fixture
def run_celery() -> Run:
    """``celery -A <app> domain-events <arguments>``"""

    def run(app: Celery, *arguments: str) -> click.testing.Result:
        context: Any = CLIContext(app=app, no_color=True, workdir=None)
        return click.testing.CliRunner().invoke(domain_events, arguments, obj=context)

    return run


@pytest.fixture
def run_alone(monkeypatch: pytest.MonkeyPatch) -> Run:
    """``celery-tasker-events <arguments>``"""
    # The command adds the working directory to it.
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def run(*arguments: str) -> click.testing.Result:
        return click.testing.CliRunner().invoke(main, arguments)

    return run
