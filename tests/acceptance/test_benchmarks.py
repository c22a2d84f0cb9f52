"""The benchmarks run, in short; their figures of the task's thread are printed at the end of the tests, and never judged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_all_benchmarks_run_and_tell_their_figures(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(tmp_path / "figures.json")]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)

    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "figures.json").read_text())
    assert {"python", "processor", "cores", "load", "postgres"} <= report["machine"].keys()
    numbers = {part.strip(" ,") for table in report["benchmarks"] for part in table["title"].partition(".")[0].split(",")}
    assert numbers == {str(number) for number in range(1, 11)}
    for table in report["benchmarks"]:
        assert table["title"] in done.stdout
        assert all(row["min"] <= row["median"] <= row["max"] and row["rounds"] for row in table["figures"]), table
    _, first, *_ = done.stdout.split("\n\n")
    assert "no plugin" in first
    record_property("figures", f"\n{first}")
