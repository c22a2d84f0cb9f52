"""Every code block of the README and of docs/ is run: with a name by the test of its page, and without one here."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import click
import psycopg
import pydantic
import pytest
from celery import Celery, chain
from celery.signals import after_setup_logger, after_setup_task_logger
from click.testing import CliRunner
from pages import DOCS, extras, fences, name_of
from worker_process import close, wait_until

import celery_tasker_events
from celery_tasker_events import DomainEvents, envelope
from celery_tasker_events.cli.celery_command import domain_events
from celery_tasker_events.cli.main import main
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import set_up
from celery_tasker_events.settings import Settings

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent

#: Pages whose blocks one test takes all together.
WHOLE = {
    "README.md": "acceptance/test_readme.py",
    "docs/how-to/check-contracts-in-ci.md": "integration/test_contract_page.py",
    "docs/how-to/django.md": "integration/test_frameworks.py",
    "docs/how-to/fastapi.md": "integration/test_frameworks.py",
    "docs/how-to/flask.md": "integration/test_frameworks.py",
    "docs/how-to/handle-dead-letters.md": "integration/test_dead_letters_page.py",
    "docs/how-to/test-your-tasks.md": "integration/test_testing_page.py",
    "docs/tutorial/your-first-event.md": "acceptance/test_tutorial.py",
}
LANGUAGES = ("json", "python", "sh", "sql", "toml", "yaml")

PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
BLOCKS = [
    (str(page.relative_to(ROOT)), language, block)
    for page in PAGES
    for language, block in fences(page.read_text())
    if language in LANGUAGES and str(page.relative_to(ROOT)) not in WHOLE
]


def unnamed(language: str) -> list[tuple[str, str]]:
    return [(page, block) for page, of, block in BLOCKS if of == language and not name_of(block)]


def each(language: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", [pytest.param(block, id=page) for page, block in unnamed(language)])


def test_each_block_with_a_name_is_run_by_a_test_of_its_page():
    tests = [path.read_text() for path in TESTS.rglob("test_*.py")]

    for page, _, block in BLOCKS:
        if name := name_of(block):
            of_page = [text for text in tests if Path(page).name in text]
            assert any(f'"{name}"' in text for text in of_page), f"no test that reads {page} runs its {name}"


@pytest.mark.parametrize(("page", "module"), WHOLE.items())
def test_pages_that_are_taken_as_a_whole_are(page, module):
    assert re.search(rf"\b{Path(page).stem}\b", (TESTS / module).read_text())


# Examples in Python stand for parts of a program: they are run in the rest of it.


@dataclass
class Program:
    """An app with a database, and what a page's examples take for granted."""

    app: Celery
    events: DomainEvents
    names: dict[str, object]

    def run(self, page: str) -> None:
        for of_page, block in unnamed("python"):
            if of_page == page:
                self._run(block, page)

    def _run(self, block: str, page: str) -> None:
        code = compile(block, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if not re.search(r"\bfor event in\b", block):
            self._execute(code)
            return
        # A loop over events ends when the plugin is closed, and hears of what happens before that.
        errors: list[BaseException] = []

        def target() -> None:
            try:
                self._execute(code)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=target, daemon=True)
        thread.start()

        def has_ended() -> bool:
            self.events.publish("payment.processed", {"order": 17}, delivery_mode="fast")
            self.events.close(5)
            return not thread.is_alive()

        wait_until(has_ended, "the loops have ended")
        assert errors == []

    def _execute(self, code) -> None:
        returned = eval(code, self.names)
        if inspect.iscoroutine(returned):
            asyncio.run(returned)


class Shop(Celery):
    """Keeps its tasks to itself: Celery gives those of one app to all that are finalized later."""

    def task(self, *args, **options):
        return super().task(*args, **{**options, "shared": False})


@pytest.fixture
def database(dsn):
    with connect(dsn) as connection:
        set_up(connection, [f"{namespace}_domain_events{end}" for namespace in ("fraud", "payments") for end in ("", "_dlq")])
    return dsn


@pytest.fixture
def program(database, monkeypatch):
    # A receiver that an example connects is gone with it.
    for signal in (after_setup_logger, after_setup_task_logger):
        monkeypatch.setattr(signal, "receivers", signal.receivers and [*signal.receivers])
    app = Shop("shop", broker="memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, tasker_events_dsn=database, tasker_events_namespace="payments")
    events = DomainEvents(app)

    @app.task(name="validate_payment")
    def validate_payment(order):
        return order

    public = {name: getattr(celery_tasker_events, name) for name in celery_tasker_events.__all__}
    given = {"app": app, "asyncio": asyncio, "chain": chain, "dataclass": dataclass, "events": events, "order": 17, "os": os}
    given |= {"pydantic": pydantic, "validate_payment": validate_payment}
    module = ModuleType("shop")
    vars(module).update(public | given)
    monkeypatch.setitem(sys.modules, "shop", module)
    yield Program(app, events, vars(module))
    assert Settings.from_conf(app.conf)  # with what the page has set
    assert events.close(30)
    close(app)


@pytest.mark.parametrize("page", sorted({page for page, _ in unnamed("python")}))
def test_examples_in_python_run(program, page, caplog):
    program.run(page)

    assert "was not published by hand" not in caplog.text


@each("yaml")
def test_examples_in_yaml_are_templates(block, tmp_path):
    (tmp_path / "template.yaml").write_text(block)

    result = CliRunner().invoke(main, ["check", "--strict", str(tmp_path / "template.yaml")])

    assert result.exit_code == 0, result.output


@each("toml")
def test_examples_in_toml_are_settings(block, tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "worker.toml").write_text(block)

    assert Settings.from_conf({"tasker_events_config_dir": str(tmp_path)})


@each("json")
def test_examples_in_json_are_what_is_written(block):
    example = json.loads(block)

    # Either what an envelope reads, or a log line.
    assert "logger" in example or envelope.read(example)


@each("sql")
def test_examples_in_sql_run(block, database):
    with psycopg.connect(database) as connection:
        connection.execute(block)


@each("sh")
def test_examples_in_shell_call_what_there_is(block, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://shop@db/shop")
    for line in os.path.expandvars(block.replace("\\\n", " ")).splitlines():
        words = shlex.split(line.partition("|")[0], comments=True)
        match words:
            case ["pip", "install", package]:
                assert set(re.fullmatch(r"celery-tasker-events\[(.*)\]", package)[1].split(",")) <= extras()
            case ["celery-tasker-events", *rest]:
                parse(main, rest)
            case ["celery", "-A", _, "domain-events", *rest]:
                parse(domain_events, rest)
            case _:
                evaluate(line)


def parse(command: click.Command, words: list[str]) -> None:
    """Parse a command line as click would, without running anything."""
    with command.make_context(command.name, [*words]) as context:
        if isinstance(command, click.Group):
            _, child, rest = command.resolve_command(context, words)
            parse(child, rest)


def evaluate(line: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", line], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
