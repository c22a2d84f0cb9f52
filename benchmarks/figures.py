"""Figures: what was measured, with median and spread, as a table and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["Figure", "Goal", "Table", "at_least", "at_most", "machine", "percentile"]

#: Whose versions the figures depend on.
_PACKAGES = ("celery", "kombu", "psycopg", "pgmq", "orjson", "jsonschema", "jsonschema-rs", "fastjsonschema", "blinker", "pyee")


@dataclass
class Figure:
    """All measurements of one thing, one a round, in the table's unit."""

    name: str
    taken: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The least: where noise only ever adds, this is nearest to the truth."""
        return min(self.taken)

    @property
    def median(self) -> float:
        return statistics.median(self.taken)

    def row(self) -> dict[str, Any]:
        return {"name": self.name, "median": self.median, "min": self.best, "max": max(self.taken), "rounds": len(self.taken)}


@dataclass(frozen=True)
class Goal:
    """What a figure, or a ratio of two, should be.

    Attributes:
        text: What ``value`` is.
    """

    text: str
    value: float
    limit: float
    is_met: bool
    sign: str

    def line(self) -> str:
        verdict = "met   " if self.is_met else "MISSED"
        return f"{verdict} {self.text}: {_number(self.value)} (goal: {self.sign} {_number(self.limit)})"


def at_most(text: str, value: float, limit: float) -> Goal:
    return Goal(text, value, limit, value <= limit, "≤")


def at_least(text: str, value: float, limit: float) -> Goal:
    return Goal(text, value, limit, value >= limit, "≥")


@dataclass
class Table:
    """The result of one benchmark.

    Attributes:
        unit: Of every figure, such as ``"µs per task"``.
        baseline: The figure that is taken off the others where they tell what something adds; None: nothing is.
        notes: What the figures do not say by themselves.
    """

    title: str
    unit: str
    figures: Sequence[Figure]
    baseline: Figure | None = None
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = ()

    def added(self, figure: Figure) -> float:
        """What the figure has more than the baseline, by minima."""
        assert self.baseline is not None
        return figure.best - self.baseline.best

    def named(self, name: str) -> Figure:
        return next(figure for figure in self.figures if figure.name == name)

    def text(self) -> str:
        width = max(len(figure.name) for figure in self.figures)
        heads = ["median", "min", "max", *(["added"] if self.baseline else [])]
        lines = [self.title, f"{'':{width}}" + "".join(f" {head:>10}" for head in heads) + f"   {self.unit}"]
        for figure in self.figures:
            row = figure.row()
            values = [row["median"], row["min"], row["max"], *([self.added(figure)] if self.baseline else [])]
            lines.append(f"{figure.name:{width}}" + "".join(f" {_number(value):>10}" for value in values))
        return "\n".join([*lines, *(f"  {goal.line()}" for goal in self.goals), *(f"  {note}" for note in self.notes)])

    def as_json(self) -> dict[str, Any]:
        rows = [{**figure.row(), **({"added": self.added(figure)} if self.baseline else {})} for figure in self.figures]
        goals = [{"text": goal.text, "value": goal.value, "limit": goal.limit, "met": goal.is_met} for goal in self.goals]
        return {"title": self.title, "unit": self.unit, "figures": rows, "goals": goals, "notes": list(self.notes)}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that the given share of all, from 0 to 1, does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine(postgres: str) -> dict[str, Any]:
    """Where it was measured: figures of two machines, or of two moments, can't be compared; ratios of one run can.

    Args:
        postgres: The server's version.
    """
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "postgres": postgres,
        **{package: version(package) for package in _PACKAGES},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 0.1 else f"{value:.2f}"
