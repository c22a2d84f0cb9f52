"""The page on dead letters keeps its word: its files, commands and queries are run in the order in which they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "handle-dead-letters.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)

#: What differs from run to run.
VARIABLE = r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+\d\d:\d\d|the event is \d+ bytes"


def plain(text: str) -> str:
    return " ".join(re.sub(VARIABLE, "…", text).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory, new_database):
    """Runs all blocks; returns for each text block what it promises and what the command before it printed."""
    folder, dsn = tmp_path_factory.mktemp("page"), new_database()
    # However the tests were started, the commands are those of this Python.
    celery = folder / "celery"
    celery.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m celery "$@"\n')
    celery.chmod(0o755)
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "DATABASE_URL": dsn, "PATH": path, "PGTZ": "UTC"}
    promised, printed, rows = [], "", {}
    for language, text in BLOCKS:
        if language == "python":
            (folder / re.match(r"# (\S+)\n", text)[1]).write_text(text)
        elif language == "sh":
            done = subprocess.run(
                ["sh", "-e", "-c", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, done.stdout + done.stderr
            printed = done.stdout
        elif language == "text":
            promised.append((text, printed))
        else:
            with psycopg.connect(dsn) as connection:
                rows[text.split()[1]] = connection.execute(text).fetchall()
    return promised, rows


def test_the_commands_print_what_the_page_shows(run):
    promised, _ = run

    assert len(promised) == 5
    for text, printed in promised:
        # A line with nothing but dots stands for what the page leaves out.
        pieces = [re.escape(plain(piece)) for piece in re.split(r"^…$", text, flags=re.MULTILINE)]
        assert re.fullmatch(".*".join(pieces), plain(printed)), f"{text}\n--- but ---\n{printed}"


def test_the_queries_find_the_letters(run):
    _, rows = run

    assert [(row[0], row[2], row[3]) for row in rows["look_at_dead_letters.sql"]] == [
        (1, "payment.processed", "schema"),
        (2, "payment.processed", "snapshot"),
        (3, "payment.processed", "postgres"),
        (4, "payment.processed", "size"),
    ]
    assert [row[:2] for row in rows["count_dead_letters.sql"]] == [("payments_domain_events_dlq", 4)]
