"""The options of a consumer, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from celery_tasker_events.consumer.failing import Backoff
from celery_tasker_events.consumer.idempotency import IdempotencyStore
from celery_tasker_events.consumer.reading import SUFFIX
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.event import queue_name

__all__ = ["OnSuccess", "Options", "Unmatched", "check_dsn", "check_one_of", "queues_of"]

OnSuccess = Literal["delete", "archive"]
Unmatched = Literal["archive", "delete", "dead_letter"]

_QUEUE = re.compile(r"[A-Za-z0-9_]{1,47}")
_LETTERS = "_dlq"

#: PGMQ takes whole seconds in 32 bits; nobody needs more than a day, for leases are extended.
_LONGEST_TIMEOUT = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Options:
    """See :class:`~celery_tasker_events.consumer.Consumer`, which takes the same."""

    name: str
    concurrency: int
    visibility_timeout: int
    max_attempts: int
    backoff: Backoff
    on_success: OnSuccess
    unmatched: Unmatched
    ordered: bool
    store: IdempotencyStore | None
    poll_interval: float
    listen: bool
    batch_size: int
    shutdown_timeout: float

    def __post_init__(self) -> None:
        _whole("concurrency", self.concurrency, 1, 1000)
        # Leases are extended after a third of it, and the clock of a busy machine needs some room.
        _whole("visibility_timeout", self.visibility_timeout, 3, _LONGEST_TIMEOUT)
        _whole("max_attempts", self.max_attempts, 1, 2**30)
        _whole("batch_size", self.batch_size, 1, 10_000)
        check_one_of("on_success", self.on_success, "delete", "archive")
        check_one_of("unmatched", self.unmatched, "archive", "delete", "dead_letter")
        if not self.poll_interval > 0:
            raise ConfigurationError(f"poll_interval is {self.poll_interval!r}: it must be seconds, more than 0")
        if not self.shutdown_timeout >= 0:
            raise ConfigurationError(f"shutdown_timeout is {self.shutdown_timeout!r}: it must be seconds, 0 or more")
        if not callable(self.backoff):
            raise ConfigurationError("backoff must be a function from the number of the attempt to seconds")
        if self.store is not None and not isinstance(self.store, IdempotencyStore):
            raise ConfigurationError("store must be an IdempotencyStore, such as MemoryStore() or PostgresStore()")


def check_dsn(dsn: str) -> None:
    """Raise ConfigurationError if it is no connection string."""
    try:
        conninfo_to_dict(dsn)
    except ProgrammingError as error:
        # The error would show the string, and a password in it.
        raise ConfigurationError("the DSN is not a connection string, such as postgresql://user@host/database") from error


def queues_of(namespaces_or_queues: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the queues: a name that ends in ``_domain_events`` is one, any other is a namespace.

    Raises:
        ConfigurationError: if there is none, or if one is no name, or a queue of dead letters.
    """
    if not namespaces_or_queues:
        raise ConfigurationError("nothing to consume: give the namespaces, such as 'payments'")
    queues: dict[str, None] = {}
    for name in namespaces_or_queues:
        if not name:
            raise ConfigurationError("an empty name is no namespace and no queue")
        if name.endswith(_LETTERS):
            raise ConfigurationError(f"{name} holds dead letters, which are no events: they can't be consumed")
        queue = name if name.endswith(SUFFIX) else queue_name(name)
        if not _QUEUE.fullmatch(queue):
            raise ConfigurationError(
                f"{name!r} is no namespace: it must be of a-z, 0-9 and _, and its queue of 47 characters at most"
            )
        queues[queue] = None
    return tuple(queues)


def _whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigurationError(f"{name} is {value!r}: it must be a whole number from {least} to {most}")


def check_one_of(name: str, value: object, *allowed: str) -> None:
    """Raise ConfigurationError if the value of that option is none that is allowed."""
    if value not in allowed:
        raise ConfigurationError(f"{name} is {value!r}: it must be one of {', '.join(allowed)}")
