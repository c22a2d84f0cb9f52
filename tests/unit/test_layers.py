"""The floors of the house: the contracts hold, and they bite where an import breaks them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "celery_tasker_events"


def lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Check the package in that folder by the contracts of the setup.cfg there."""
    command = (
        "import sys; from importlinter.cli import lint_imports;"
        "sys.exit(lint_imports(no_cache=True, limit_to_contracts=sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", command, *contracts],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package, to be spoilt."""
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    return tmp_path


def test_no_file_imports_from_a_floor_above_it() -> None:
    result = lint(ROOT)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract", "told"),
    [
        (
            "event.py",
            f"from {PACKAGE}.plugin import DomainEvents",
            "floors",
            f"{PACKAGE}.event is not allowed to import {PACKAGE}.plugin",
        ),
        (
            "bus/pattern.py",
            f"import {PACKAGE}.durable.sql",
            "floors",
            f"{PACKAGE}.bus is not allowed to import {PACKAGE}.durable",
        ),
        ("publisher.py", "import kombu", "celery", f"{PACKAGE}.publisher is not allowed to import kombu"),
        ("newcomer.py", "", "floors", f"{PACKAGE}.newcomer"),
    ],
    ids=["upwards", "sideways", "celery", "on no floor"],
)
def test_an_import_that_breaks_a_contract_is_found(copy: Path, file: str, line: str, contract: str, told: str) -> None:
    path = copy / PACKAGE / file
    text = path.read_text() if path.exists() else '"""New."""\n\nfrom __future__ import annotations\n'
    path.write_text(text.replace("from __future__ import annotations\n", f"from __future__ import annotations\n\n{line}\n", 1))

    result = lint(copy, contract)

    assert result.returncode == 1, result.stdout + result.stderr
    assert told in " ".join(result.stdout.split())
