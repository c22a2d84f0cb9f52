"""What ``retry`` and ``timeout_seconds`` of a step say, in the words of Celery's task options."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_tasker_events.errors import Problem, did_you_mean
from celery_tasker_events.located import LocatedDict
from celery_tasker_events.template import StepTemplate

__all__ = ["HARD_LIMIT_AFTER_SECONDS", "StepOptions", "options_of"]

#: So long a step may take to end after its soft time limit, before its process is killed.
HARD_LIMIT_AFTER_SECONDS = 5

#: What the reference system takes where ``retry`` does not say it.
MAX_ATTEMPTS, BACKOFF, BASE_MS, MAX_MS = 3, "exponential", 1000, 30_000

_BACKOFFS = ("exponential", "none")
_RETRY_FIELDS = ("retryable", "max_attempts", "limit", "backoff", "backoff_base_ms", "max_backoff_ms", "jitter")


@dataclass(frozen=True)
class StepOptions:
    """Celery task options; those of a field that the step does not have are empty.

    Attributes:
        retry: What comes of ``retry``.
        timeout: What comes of ``timeout_seconds``.
    """

    retry: Mapping[str, Any] = field(default_factory=dict)
    timeout: Mapping[str, Any] = field(default_factory=dict)

    def all(self) -> dict[str, Any]:
        return {**self.retry, **self.timeout}

    def differs_from(self, other: StepOptions) -> bool:
        """Whether both say something of one field, and not the same; a field that a step does not have says nothing."""
        return bool(
            (self.retry and other.retry and self.retry != other.retry)
            or (self.timeout and other.timeout and self.timeout != other.timeout)
        )


def options_of(step: StepTemplate) -> tuple[StepOptions, list[Problem]]:
    """Read a step's fields; with a problem in them there are no options."""
    definition = step.definition
    problems = [Problem(message, step.source, line) for line, message in _problems(definition)]
    if problems:
        return StepOptions(), problems
    retry, seconds = definition.get("retry"), definition.get("timeout_seconds")
    timeout = {} if seconds is None else {"soft_time_limit": seconds, "time_limit": seconds + HARD_LIMIT_AFTER_SECONDS}
    return StepOptions({} if retry is None else _retry_options(retry), timeout), []


def _retry_options(retry: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in retry.items() if value is not None}
    if not given.get("retryable", True):
        return {"max_retries": 0}
    attempts = given.get("max_attempts", given.get("limit", MAX_ATTEMPTS))
    options: dict[str, Any] = {"autoretry_for": (Exception,), "max_retries": attempts - 1}
    if given.get("backoff", BACKOFF) == "none":
        options["retry_kwargs"] = {"countdown": 0}
    else:
        # Celery counts in whole seconds.
        options["retry_backoff"] = math.ceil(given.get("backoff_base_ms", BASE_MS) / 1000)
        options["retry_backoff_max"] = math.ceil(given.get("max_backoff_ms", MAX_MS) / 1000)
        options["retry_jitter"] = given.get("jitter", True)
    return options


def _problems(definition: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """What is wrong, as (line, message)."""
    assert isinstance(definition, LocatedDict)
    seconds, retry = definition.get("timeout_seconds"), definition.get("retry")
    if seconds is not None and not _is_whole(seconds, 1):
        message = f"timeout_seconds must be a whole number of seconds from 1, not {seconds!r}"
        yield definition.line_of("timeout_seconds"), message
    if retry is None:
        return
    if not isinstance(retry, LocatedDict):
        yield definition.line_of("retry"), f"retry must be a mapping such as {{retryable: true, limit: 3}}, not {retry!r}"
        return
    for key in retry:
        if key not in _RETRY_FIELDS:
            yield retry.line_of(key), f"unknown field {key!r} in retry.{did_you_mean(str(key), _RETRY_FIELDS)}"
    for key in ("retryable", "jitter"):
        if not isinstance(retry.get(key, True), bool | None):
            yield retry.line_of(key), f"{key} must be true or false, not {retry[key]!r}"
    for key in ("max_attempts", "limit", "backoff_base_ms", "max_backoff_ms"):
        if retry.get(key) is not None and not _is_whole(retry[key], 1):
            yield retry.line_of(key), f"{key} must be a whole number from 1, not {retry[key]!r}"
    if retry.get("max_attempts") is not None and retry.get("limit") not in (None, retry["max_attempts"]):
        yield retry.line_of("limit"), "limit and max_attempts mean the same, and differ: keep one of them"
    if retry.get("backoff") not in (None, *_BACKOFFS):
        message = f"backoff must be one of {', '.join(_BACKOFFS)}, which Celery has, not {retry['backoff']!r}"
        yield retry.line_of("backoff"), message


def _is_whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low
