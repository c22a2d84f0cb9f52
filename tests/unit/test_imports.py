"""What is imported, and when: nothing that a process does not need; each test needs an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import celery_tasker_events

#: What takes long to import, and only who publishes, or has a schema, needs.
HEAVY = "('asyncio', 'jsonschema', 'platformdirs', 'psycopg', 'psycopg_pool', 'sqlite3')"

#: What only apps with task templates need, only those with TOML files, and only workers that must find a folder.
FOR_TEMPLATES = "'celery_tasker_events.canvas', 'celery_tasker_events.template', 'graphlib'"
FOR_SOME = f"({FOR_TEMPLATES}, 'celery_tasker_events.toml_settings', 'platformdirs', 'tomli', 'tomllib')"

APP = """
from celery import Celery
from celery_tasker_events import DomainEvents, publishes_events

app = Celery("shop", broker="memory://")
events = DomainEvents(app)

@app.task
def pay():
    pass
"""


def imported(program: str, of: str) -> str:
    """Which packages and modules of these are imported when the program has run."""
    program += f"\nimport sys; print(*sorted({{*sys.modules, *(name.partition('.')[0] for name in sys.modules)}} & {{*{of}}}))"
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_package_by_itself_imports_none_of_its_parts() -> None:
    program = "import celery_tasker_events, sys; print(*(m for m in sys.modules if m.startswith('celery_tasker_events')))"

    assert imported(program, "('celery', 'orjson')") == "celery_tasker_events"


def test_a_consumer_imports_no_celery() -> None:
    assert imported("import celery_tasker_events.consumer", "('celery', 'kombu', 'billiard', 'psycopg')") == "psycopg"


@pytest.mark.parametrize("value", ["Decimal(1)", "{1: Decimal(1)}"])
def test_a_value_that_orjson_does_not_know_makes_it_import_no_numpy(value: str) -> None:
    program = f"from decimal import Decimal; from celery_tasker_events import values; values.encode({value})"

    assert imported(program, "('numpy',)") == ""


@pytest.mark.parametrize(
    "more",
    [
        "app.finalize()",
        "pay.delay()",
        "pay.apply()",
        "events.subscribe('pay.*')(print)",
        "publishes_events('pay.done', namespace='pay')(lambda: None)",
    ],
    ids=["an app without events", "a caller", "an eager call", "a subscriber", "a declaration"],
)
def test_a_process_that_publishes_nothing_imports_nothing_heavy(more: str) -> None:
    assert imported(APP + more, HEAVY) == ""


def test_a_caller_of_tasks_with_schemas_needs_no_validation() -> None:
    program = APP + "publishes_events('pay.done', schema={'type': 'object'})(pay); pay.delay()"

    assert imported(program, HEAVY) == ""


@pytest.mark.parametrize("more", ["events.catalog", "events.check_worker()"], ids=["a caller", "a worker"])
def test_an_app_imports_nothing_for_settings_that_it_does_not_have(more: str, tmp_path: Path) -> None:
    settings = f"app.conf.update(tasker_events_dsn='', tasker_events_spool_dir={str(tmp_path)!r})\n"

    assert imported(APP + settings + more, FOR_SOME) == ""


def test_a_worker_imports_what_its_templates_need_before_it_forks(tmp_path: Path) -> None:
    template = tmp_path / "orders.yaml"
    template.write_text("{name: order, namespace_name: shop, steps: []}")
    program = f"{APP}app.conf.tasker_events_templates = [{str(template)!r}]\nevents.check_worker()"

    assert imported(program, f"({FOR_TEMPLATES})") == "celery_tasker_events.canvas celery_tasker_events.template graphlib"


def test_a_worker_imports_what_finds_the_folder_of_its_spools_before_it_forks() -> None:
    assert imported(APP + "app.conf.tasker_events_dsn = ''\nevents.check_worker()", "('platformdirs',)") == "platformdirs"


def test_every_public_name_is_there() -> None:
    assert sorted(celery_tasker_events._HOME_OF) == celery_tasker_events.__all__
    for name in celery_tasker_events.__all__:
        assert getattr(celery_tasker_events, name).__name__ == name
    assert set(celery_tasker_events.__all__) <= set(dir(celery_tasker_events))


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'celery_tasker_events' has no attribute 'DomainEvent5'"):
        _ = celery_tasker_events.DomainEvent5
