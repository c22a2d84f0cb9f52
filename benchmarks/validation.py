"""10: what the check of a payload against its JSON Schema costs, beside the validators alone."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from typing import Any

import fastjsonschema
import jsonschema
import jsonschema_rs

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Table, at_most
from benchmarks.tasks import RESULT, SCHEMA
from celery_tasker_events.schema import PayloadValidator

__all__ = ["measure"]

CHECKS = 5000

FAST, SLOW = "plugin, with [fast]", "plugin, without"


def measure(bench: Bench) -> list[Table]:
    contestants: dict[str, Callable[[Any], object]] = {
        FAST: PayloadValidator(SCHEMA).check,
        SLOW: _without_fast().check,
        "jsonschema": jsonschema.Draft7Validator(SCHEMA).is_valid,
        "fastjsonschema": fastjsonschema.compile(SCHEMA),
        "jsonschema-rs": jsonschema_rs.Draft7Validator(SCHEMA).is_valid,
    }
    figures = {name: Figure(name) for name in contestants}
    times = bench.times(CHECKS)
    for _ in range(bench.rounds):
        for name, check in contestants.items():
            seconds = timeit.timeit("check(payload)", "", time.process_time, times, {"check": check, "payload": RESULT})
            figures[name].taken.append(seconds / times * 1e6)
    fastest = min(("fastjsonschema", "jsonschema-rs"), key=lambda name: figures[name].best)
    return [
        Table(
            "10. Validation of one valid payload",
            "µs",
            list(figures.values()),
            goals=[
                at_most(f"{FAST} / {fastest}", figures[FAST].best / figures[fastest].best, 2),
                at_most(f"{SLOW} / jsonschema", figures[SLOW].best / figures["jsonschema"].best, 2),
            ],
        )
    ]


def _without_fast() -> PayloadValidator:
    validator = PayloadValidator(SCHEMA)
    validator._quick_yes = None  # as where jsonschema-rs is not installed
    return validator
