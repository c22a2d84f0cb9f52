"""Reads the metrics that a worker serves, as Prometheus does."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from worker_process import WorkerProcess, wait_until


def address_of(worker: WorkerProcess) -> str:
    """Where a worker that was given port 0 serves its metrics."""
    found = wait_until(lambda: re.search(r"Metrics are served at (http://\S+)", worker.log), "the metrics are served")
    return str(found[1])


def text_of(address: str) -> str:
    # Never through a proxy of the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=30) as answer:
        return str(answer.read().decode())


def families_of(address: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text_of(address))}


def samples_of(address: str, name: str, *by: str) -> dict[Any, float]:
    """Sums of the samples of that name which are not 0, by the values of these labels; of one label, not as a tuple."""
    sums: dict[Any, float] = {}
    for family in families_of(address).values():
        for sample in family.samples:
            if sample.name == name and sample.value:
                key = _values(sample.labels, by)
                sums[key] = sums.get(key, 0) + sample.value
    return sums


def _values(labels: Mapping[str, str], by: tuple[str, ...]) -> Any:
    values = tuple(labels[label] for label in by)
    return values[0] if len(values) == 1 else values
