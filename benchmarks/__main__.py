"""Runs the benchmarks: ``python -m benchmarks [NAME…] [--quick] [--json FILE] [--dsn DSN]``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.figures import Table, machine
from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres

#: In the order in which they run; each is a module with a function ``measure``.
NAMES = ("task_events", "throughput", "latency", "bus", "worker", "growth", "footprint", "validation")

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- latest run -->\n", "<!-- end of the latest run -->\n"


def main() -> None:
    options = _options()
    with _bench(options) as bench:
        report: dict[str, Any] = {"machine": machine(bench.postgres_version), "benchmarks": []}
        texts = [", ".join(f"{key} {value}" for key, value in report["machine"].items())]
        print(texts[0], flush=True)
        tables: list[Table] = []
        for name in options.names or NAMES:
            began = time.monotonic()
            for table in importlib.import_module(f"benchmarks.{name}").measure(bench):
                tables.append(table)
                texts.append(table.text())
                print(f"\n{texts[-1]}", flush=True)
            print(f"\n({name} took {time.monotonic() - began:.0f} s)", flush=True)
    report["benchmarks"] = [table.as_json() for table in tables]
    goals = [goal for table in tables for goal in table.goals]
    print(f"\n{sum(goal.is_met for goal in goals)} of {len(goals)} goals met")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if options.readme:
        before, _, rest = README.read_text().partition(BEGIN)
        block = "```\n" + "\n\n".join(texts) + "\n```\n"
        README.write_text(before + BEGIN + block + END + rest.partition(END)[2])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all by default")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each contestant, in turns (default: 15)")
    parser.add_argument("--quick", action="store_true", help="few short rounds: whether it runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file, too")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    parser.add_argument("--dsn", help="a Postgres in which databases may be made; an embedded one by default")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    return options


@contextlib.contextmanager
def _bench(options: argparse.Namespace) -> Iterator[Bench]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        # Not below that folder: run as root, the server runs as a user that must get into its own.
        dsn = options.dsn or stack.enter_context(EmbeddedPostgres(Path(tempfile.mkdtemp(prefix="pg-")), delete=True)).dsn
        yield Bench(dsn, folder, 2 if options.quick else options.rounds, options.quick)


if __name__ == "__main__":
    main()
