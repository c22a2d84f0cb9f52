"""A shell completes commands and queues: it asks the program as it asks any that click has made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sending import event, send, send_raw

APPS = Path(__file__).parent / "apps"
ALONE = "from celery_tasker_events.cli.main import main; main(prog_name='celery-tasker-events')"
CELERY = "import sys; sys.argv[0] = 'celery'; from celery.__main__ import main; main()"
NOWHERE = "postgresql://me@127.0.0.1:1/none"


def completed(program: str, words: str, **variables: str) -> list[str]:
    """What bash is told when Tab is pressed after these words."""
    name = words.split()[0].upper().replace("-", "_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "TASKER_EVENTS"))}
    environment.update({"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), f"_{name}_COMPLETE": "bash_complete"})
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=APPS,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.removeprefix("plain,") for line in done.stdout.splitlines() if line]


def shop(dsn: str | None) -> str:
    return json.dumps({"tasker_events_dsn": dsn})


@pytest.fixture
def filled(dsn):
    send(dsn, event(), event(namespace="parcels"), event(namespace="stock"))
    send_raw(dsn, "{}", "payments_domain_events_dlq")
    send_raw(dsn, "{}", "mails")
    return dsn


def test_the_commands_are_completed():
    assert set(completed(ALONE, "celery-tasker-events ")) >= {"queues", "show", "tail", "trace"}
    assert completed(CELERY, "celery -A shop domain-events tr", SHOP_SETTINGS=shop(None)) == ["trace"]


@pytest.mark.parametrize("words", ["queues p", "tail p", "tail -n 5 p", "show --queue p", "trace order-1 --queue p"])
def test_queues_are_completed_from_the_database(filled, words):
    expected = ["parcels", "payments", "payments_domain_events_dlq"]

    assert completed(ALONE, f"celery-tasker-events {words}", TASKER_EVENTS_DSN=filled) == expected
    command, _, rest = words.partition(" ")
    assert completed(ALONE, f"celery-tasker-events {command} --dsn {filled} {rest}") == expected


def test_with_an_app_they_are_completed_from_its_database(filled):
    names = ["parcels", "payments", "payments_domain_events_dlq", "stock"]

    assert completed(CELERY, "celery -A shop domain-events tail ", SHOP_SETTINGS=shop(filled)) == names


@pytest.mark.parametrize("dsn", [None, NOWHERE])
def test_without_a_database_they_are_those_that_the_app_declares(dsn):
    assert completed(CELERY, "celery -A shop domain-events tail ", SHOP_SETTINGS=shop(dsn)) == ["audit", "payments"]


@pytest.mark.parametrize(
    ("program", "words", "variables"),
    [
        (ALONE, "celery-tasker-events tail ", {}),
        (ALONE, "celery-tasker-events tail ", {"TASKER_EVENTS_DSN": NOWHERE}),
        (ALONE, "celery-tasker-events tail ", {"TASKER_EVENTS_DSN": "nonsense"}),
        (CELERY, "celery -A nowhere domain-events tail ", {}),
        (CELERY, "celery -A shop domain-events tail ", {"SHOP_SETTINGS": shop(None), "SHOP_WITHOUT_PLUGIN": "1"}),
    ],
)
def test_where_nothing_is_known_nothing_is_offered_and_nothing_fails(program, words, variables):
    assert completed(program, words, **variables) == []
