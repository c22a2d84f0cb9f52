"""Type checkers know which connections make ``events.publish`` return what is to be awaited."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKED = Path(__file__).with_name("typed_publishing.py")


def test_a_type_checker_tells_blocking_from_asynchronous_connections(tmp_path: Path) -> None:
    for module in ("mypy", "sqlalchemy"):
        pytest.importorskip(module)

    # Each line that is wrong has an ignore, so that a line which is not wrong any more is an error, too.
    options = ["--strict", "--follow-imports", "silent", "--cache-dir", str(tmp_path), "--config-file", ""]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(CHECKED)], cwd=CHECKED.parents[2], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
