"""The README keeps its word: its files and commands are run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import fences
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from worker_process import WorkerProcess

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = fences(README)
FILES = {match[1]: text for _, text in BLOCKS if (match := re.match(r"# (\S+\.\w+)\n", text))}

EXAMPLE = "python3 -m venv .venv && .venv/bin/pip install -q '.[demo]' && .venv/bin/python -m example_project"
TESTS = "python3 -m venv .venv && .venv/bin/pip install -q tox && .venv/bin/tox"


#: Kombu's folder transport lets a worker read a message that is not written yet, and ends it then.
WHOLE_MESSAGES = """
from kombu.transport import TRANSPORT_ALIASES
TRANSPORT_ALIASES["filesystem"] = "celery_tasker_events.testing.folder_broker:Transport"
"""


@pytest.fixture
def place(tmp_path, bare_dsn):
    """A folder with the README's files, and an environment whose broker is that folder."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    # The folder broker reads where it writes only if both names lead to the same folder.
    (tmp_path / "data_in").mkdir()
    (tmp_path / "data_out").symlink_to(tmp_path / "data_in")
    (tmp_path / "sitecustomize.py").write_text(WHOLE_MESSAGES)
    environment = {
        **os.environ,
        # A libpq string rather than a URI: the pgmq client reads no socket folder from a URI.
        "DATABASE_URL": make_conninfo(**{key: str(value) for key, value in conninfo_to_dict(bare_dsn).items() if value}),
        "PYTHONPATH": str(tmp_path),
        "CELERY_BROKER_URL": "filesystem://",
        "CELERY_RESULT_BACKEND": f"file://{tmp_path}",
    }
    return tmp_path, environment


def run(command: list[str], place: tuple[Path, dict[str, str]]) -> str:
    folder, environment = place
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def celery(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", *arguments]


def pay(place, *orders: dict[str, object]) -> None:
    """Send the orders to the README's task and wait for the outcomes."""
    script = (
        "import json, sys, shop\n"
        "results = [shop.process_payment.delay(order) for order in json.loads(sys.argv[1])]\n"
        "for result in results: result.get(timeout=30, propagate=False)\n"
    )
    run([sys.executable, "-c", script, json.dumps(orders)], place)


def worked(place, *orders: dict[str, object]) -> str:
    """Run the README's worker while it is paid these orders; return what it printed."""
    folder, environment = place
    worker = WorkerProcess("shop", folder, folder / "worker.log", environment).start()
    try:
        pay(place, *orders)
        assert worker.stop() == 0
    finally:
        worker.kill()
    return worker.log


ORDERS = (
    {"id": 1, "amount": 10},
    {"id": 2, "amount": 20, "gateway_is_slow": True},
    {"id": 3, "amount": 0},
    {"id": 4, "amount": 5000},
)


def test_the_two_commands_stand_in_the_first_screen_word_for_word():
    first_screen = README.splitlines()[:40]

    assert EXAMPLE in first_screen
    assert TESTS in first_screen


def test_every_block_of_the_readme_is_run_here():
    assert {*FILES} == {"shop.py", "reader.py", "config/tasks/payments.yaml"}
    commands = [text.splitlines() for language, text in BLOCKS if language == "sh"]
    assert commands == [
        [EXAMPLE],
        [TESTS],
        ["celery -A shop domain-events setup", "celery -A shop worker --loglevel INFO"],
    ]
    assert len(BLOCKS) == len(FILES) + len(commands)


def test_ci_runs_the_same_two_commands():
    script = (ROOT / ".ci" / "run").read_text()

    assert EXAMPLE in script
    assert TESTS in script


def test_the_shop_is_set_up_paid_and_read_as_the_readme_shows(place):
    assert "queue payments_domain_events: created" in run(celery("-A", "shop", "domain-events", "setup"), place)

    log = worked(place, *ORDERS)

    heard = re.findall(r"heard (\S+) (\{.*\})", log)
    assert sorted(heard) == [
        ("payment.processed", "{'transaction_id': 'TXN-1', 'amount': 10}"),
        ("payment.processed", "{'transaction_id': 'TXN-2', 'amount': 20}"),
        ("payment.processed", "{'transaction_id': 'TXN-4', 'amount': 5000}"),
    ]
    read = run([sys.executable, "reader.py"], place).splitlines()
    assert sorted(read) == [
        "payment.failed {'reason': 'nothing to pay', 'error_code': 'ValueError'} of step process_payment",
        "payment.flagged {'score': 0.97} of step process_payment",
        "payment.processed {'amount': 10, 'transaction_id': 'TXN-1'} of step process_payment",
        "payment.processed {'amount': 20, 'transaction_id': 'TXN-2'} of step process_payment",
        "payment.processed {'amount': 5000, 'transaction_id': 'TXN-4'} of step process_payment",
    ]
    assert run([sys.executable, "reader.py"], place) == ""


def test_the_template_declares_the_same_as_the_decorators(place):
    folder, _ = place
    program = (folder / "shop.py").read_text()
    program = re.sub(r"^@publishes_events.*\n", "", program, flags=re.MULTILINE).replace(", publishes_events", "")
    program = program.replace("\nAMOUNT", '\napp.conf.tasker_events_templates = ["config/tasks/**/*.yaml"]\nAMOUNT')
    (folder / "shop.py").write_text(program)

    run(celery("-A", "shop", "domain-events", "setup"), place)
    log = worked(place, *ORDERS[:3])

    assert log.count("heard payment.processed") == 2
    read = run([sys.executable, "reader.py"], place)
    assert sorted(line.split()[0] for line in read.splitlines()) == ["payment.failed", "payment.processed", "payment.processed"]
