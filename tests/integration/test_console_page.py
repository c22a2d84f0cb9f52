"""The page about the console keeps its word: its commands are run as they stand there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import DOCS, blocks
from sending import event, send
from worker_process import wait_until

PAGE = "how-to/console.md"
BLOCKS = blocks(PAGE)
ROOT = Path(__file__).parents[2]

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="needs the program jq")


@pytest.fixture
def environment(dsn, tmp_path):
    """A shell's environment in which both programs and an app ``shop`` are, and a database with an event."""
    send(dsn, event())
    for name, module in (("celery-tasker-events", "celery_tasker_events.cli.main"), ("celery", "celery.__main__")):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\nfrom {module} import main\nmain()\n")
        program.chmod(0o755)
    shutil.copy(ROOT / "tests/integration/apps/console_shop.py", tmp_path / "shop.py")
    return {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
        "DATABASE_URL": dsn,
        "TASKER_EVENTS_DSN": dsn,
        "SHOP_SETTINGS": "{}",
    }


@contextlib.contextmanager
def started(block: str, environment: dict[str, str], output: Path) -> Iterator[None]:
    """The shell that runs a block, until the end of the block of code."""
    with output.open("wb") as file:
        shell = subprocess.Popen(["bash", "-c", block], env=environment, stdout=file, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def test_every_block_of_the_page_is_run_by_a_test():
    assert set(BLOCKS) == {"start.sh", "alone.sh", "act.sh", "top.sh", "rate.sh"}


@pytest.mark.parametrize(
    ("name", "says"), [("start.sh", ", read-only"), ("alone.sh", ", read-only"), ("act.sh", " with actions")]
)
def test_the_console_tells_its_address(environment, tmp_path, name, says):
    output = tmp_path / "output"
    # Another console may listen on the port that is the default.
    block = BLOCKS[name] if "--port" in BLOCKS[name] else f"{BLOCKS[name].rstrip()} --port 0"

    with started(block, environment, output):
        wait_until(lambda: output.read_text().endswith("\n"), "the address is told")

    assert re.fullmatch(rf"Console{says}: http://127\.0\.0\.1:\d+/\?token=\S+\n", output.read_text())


def test_top_has_the_headings_of_the_page(environment, tmp_path):
    output = tmp_path / "output"

    with started(BLOCKS["top.sh"], environment, output):
        wait_until(lambda: "payments" in output.read_text(), "the queues are told")

    heading = " ".join(output.read_text().splitlines()[0].split())
    assert heading in [" ".join(line.split()) for line in (DOCS / PAGE).read_text().splitlines()]


@needs_jq
def test_the_rate_can_be_piped_into_a_program(environment):
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", BLOCKS["rate.sh"]], env=environment, capture_output=True, text=True)

    assert done.stdout == "0\n", done.stderr


def test_the_pictures_are_there():
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (DOCS / PAGE).read_text())

    assert len(pictures) == 3
    for picture in pictures:
        assert ((DOCS / PAGE).parent / picture).read_bytes().startswith(b"\x89PNG")
