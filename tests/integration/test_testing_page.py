"""The tests of the page about testing are run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import DOCS, blocks

NAME = "how-to/test-your-tasks.md"
PAGE = (DOCS / NAME).read_text()
FILES = blocks(NAME)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # pytest-celery's fixtures have the names of Celery's own, and need Docker.
    command = [sys.executable, "-m", "pytest", "-p", "no:celery", "-p", "celery_tasker_events.testing.plugin", "-rA", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "150"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (message,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (folder / "payment_processed.json").write_text(message)
    (folder / "off.ini").write_text("[pytest]\n")
    return folder


def test_every_test_of_the_page_holds(folder: Path) -> None:
    others = sorted(name for name in FILES if name.startswith("test_") and name != "test_wrong_amount.py")
    done = run(folder, "-c", "off.ini", *others)

    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"PASSED {name}::" in done.stdout for name in others)


def test_a_dead_letter_fails_a_test_in_the_words_of_the_page(folder: Path) -> None:
    (configuration,) = re.findall(r"^```ini\n# pytest.ini\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (folder / "pytest.ini").write_text(configuration)
    (told,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    # With the configuration of the page, this test need not name the fixture.
    text = FILES["test_wrong_amount.py"].replace("test_a_payment(domain_events)", "test_a_payment()")
    (folder / "test_wrong_amount.py").write_text(text)

    done = run(folder, "test_wrong_amount.py")

    assert done.returncode == 1, done.stdout + done.stderr
    assert plain(told) in plain(re.sub(r"^E ", "", done.stdout, flags=re.MULTILINE))


def plain(text: str) -> str:
    return " ".join(text.split())
