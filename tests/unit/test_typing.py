"""Type checkers know what ``events.publish`` takes, and which connections make it return what is to be awaited."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("checked", "needs"),
    [("typed_publishing.py", "sqlalchemy"), ("typed_events.py", "pydantic")],
    ids=["connections, blocking and asynchronous", "the payload of a declared event"],
)
def test_a_type_checker_knows_what_is_published(checked: str, needs: str, tmp_path: Path) -> None:
    for module in ("mypy", needs):
        pytest.importorskip(module)
    path = Path(__file__).with_name(checked)

    # Each line that is wrong has an ignore, so that a line which is not wrong any more is an error, too.
    options = ["--strict", "--follow-imports", "silent", "--cache-dir", str(tmp_path), "--config-file", ""]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(path)], cwd=path.parents[2], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
