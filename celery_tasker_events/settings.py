"""Every setting, its default and its range: Celery conf keys ``tasker_events_*`` become one checked Settings object."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from celery_tasker_events import envelope
from celery_tasker_events.declaration import namespace_problem
from celery_tasker_events.errors import ConfigurationError, Problem, did_you_mean

if TYPE_CHECKING:
    from celery_tasker_events.toml_settings import TomlValue

__all__ = ["PREFIX", "Settings", "masked_dsn"]

PREFIX = "tasker_events_"


@dataclass(frozen=True)
class Settings:
    """What the user configured.

    Attributes:
        dsn: libpq connection string or URI of the database with PGMQ; None where no event is durable, or all durable ones are
            published in a transaction of yours. A mapping of namespaces to DSNs spreads them over several databases; its key
            ``"*"``, all other namespaces, is what stands here then.
        namespace_dsns: The rest of that mapping.
        templates: Glob patterns of YAML task templates, relative to the working directory.
        namespace: Namespace of declarations that name none, 29 characters at most.
        apply_step_options: Whether ``retry`` and ``timeout_seconds`` of a template's steps become options of their Celery tasks.
        environment: Which ``environments`` overrides of templates and which TOML overlay count, such as ``"production"``.
        config_dir: Folder with the reference system's TOML files: ``base/worker.toml`` and, over it,
            ``environments/<environment>/worker.toml``.
        envelope: How events look on the wire: ``"native"``, ``"tasker"`` or ``"cloudevents"``.
        retryable: Exception classes, or their import paths, whose ``task_failure`` is a retryable failure: for tasks that
            are tried again by other means than Celery's retry. A task may have an attribute of this name, with the prefix.
        confirm: Whether the task's thread waits for the commit of every durable event; a declaration's ``confirm`` does it for
            one event.
        confirm_timeout_ms: Milliseconds that it waits at most.
        publishers: Import paths of custom publisher classes, so that declarations can call them by name.
        max_event_bytes: How many bytes the message of a durable event may have; a larger one becomes a dead letter.
        command_buffer_size: How many outcomes may wait for the dispatcher.
        linger_ms: Milliseconds for which events gather after some were published, to be published together: less CPU for each
            where they come fast, and as much more latency. What comes first, and what is waited for, never waits for others.
        durable_buffer_size: How many durable events may wait for Postgres in memory; more wait on disk.
        spool_dir: Folder of the file in which durable events wait during an outage, which only the worker's user may write;
            None: ``celery-tasker-events`` in the user's state folder (``$XDG_STATE_HOME``, ``~/.local/state``), or in ``/tmp``
            where there is no home.
        spool_max_bytes: How many bytes of events that file may hold, of all processes of this host; 0: there is no file, and
            an outage is held in memory.
        spool_when_full: Which events are dropped when it has no room.
        broadcast_buffer_size: How many events may wait for the in-process subscribers.
        deduplication_cache_size: How many event ids and idempotency keys the bus remembers, so that a redelivered event
            reaches a subscriber once; 0: none.
        ffi_integration_enabled: Whether ``events.stream`` is served. The name is the reference system's, whose second path
            out of the bus leads to another language.
        dispatch_timeout_ms: Milliseconds that one subscriber may take for one event.
        shutdown_drain_timeout_ms: Milliseconds that a process waits at its end for what it accepted.
        metrics_port: Port on which a worker's main process serves metrics to Prometheus; 0: any free one; None: none.
        metrics_host: Address that it listens on.
        log_format: ``"plain"``, or ``"json"`` for one JSON object a line with the structured fields.
        log_dropped_events: Whether a full buffer is logged, at most every 10 s; it is counted in any case.
        log_subscriber_errors: Whether a subscriber's error is logged; it is counted in any case.
    """

    dsn: str | None = field(default=None, repr=False)
    namespace_dsns: Mapping[str, str] = field(default_factory=dict, repr=False)
    templates: Sequence[str] = ()
    apply_step_options: bool = False
    namespace: str = "default"
    environment: str | None = None
    config_dir: str | None = None
    envelope: str = "native"
    retryable: Sequence[type[BaseException] | str] = ()
    confirm: bool = False
    confirm_timeout_ms: int = 1000
    publishers: Sequence[str] = ()
    max_event_bytes: int = 1024 * 1024
    command_buffer_size: int = 1000
    linger_ms: int = 0
    durable_buffer_size: int = 10_000
    spool_dir: str | None = None
    spool_max_bytes: int = 256 * 1024 * 1024
    spool_when_full: str = "drop_newest"
    broadcast_buffer_size: int = 2000
    deduplication_cache_size: int = 10_000
    ffi_integration_enabled: bool = True
    dispatch_timeout_ms: int = 5000
    shutdown_drain_timeout_ms: int = 5000
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    log_format: str = "plain"
    log_dropped_events: bool = True
    log_subscriber_errors: bool = True

    def dsn_of(self, namespace: str) -> str | None:
        """Return the database of a namespace's events, or None if there is none."""
        return self.namespace_dsns.get(namespace, self.dsn)

    @property
    def dsns(self) -> tuple[str, ...]:
        """All databases, each once, that of most namespaces first."""
        return tuple(dict.fromkeys(dsn for dsn in (self.dsn, *self.namespace_dsns.values()) if dsn is not None))

    @classmethod
    def from_conf(cls, conf: Mapping[str, Any], namespace: str = "") -> Settings:
        """Read the keys that start with ``tasker_events_`` from a Celery configuration, and the TOML files that it names.

        A key of the configuration wins over the same setting in a file.

        Args:
            namespace: What the app was told with ``config_from_object(..., namespace=...)``, such as ``"CELERY"``.

        Raises:
            ConfigurationError: naming each bad key, its file if it is in one, and what it allows.
        """
        prefix = f"{namespace.rstrip('_')}_" if namespace else ""
        given: dict[str, Any] = {}
        problems = []
        for key in conf:
            name = key.removeprefix(prefix).lower()
            if not name.startswith(PREFIX):
                continue
            if key == name or (prefix and key == prefix + name.upper()):
                given[name.removeprefix(PREFIX)] = conf[name]
            else:
                right = prefix + name.upper() if prefix else name
                problems.append(Problem(f"Celery does not read this key: write it as {right}", key))
        problems += [Problem(message, f"{PREFIX}{key}") for key, message in _problems(given)]
        given = {key: value for key, value in given.items() if value is not None}
        toml_values, toml_problems = _toml_named_in(given)
        # Every value is checked, also one that another overrides: it is a mistake all the same.
        problems += toml_problems
        problems += [
            toml_value.problem(message)
            for toml_value in toml_values
            for _, message in _problems({toml_value.setting: toml_value.value})
        ]
        if problems:
            raise ConfigurationError(problems)
        if isinstance(by_namespace := given.get("dsn"), Mapping):
            others = {namespace: dsn for namespace, dsn in by_namespace.items() if namespace != _OTHERS}
            given.update(dsn=by_namespace.get(_OTHERS), namespace_dsns=others)
        return cls(**{**{toml_value.setting: toml_value.value for toml_value in toml_values}, **given})


def _toml_named_in(given: Mapping[str, Any]) -> tuple[Sequence[TomlValue], Sequence[Problem]]:
    config_dir, environment = given.get("config_dir"), given.get("environment")
    if config_dir is None or _string(config_dir) or (environment is not None and _string(environment)):
        return (), ()
    # Imported here: few have such files, and need a parser for them.
    from celery_tasker_events.toml_settings import read_toml

    toml = read_toml(config_dir, environment)
    return toml.values, toml.problems


def masked_dsn(dsn: str) -> str:
    """Return the DSN as it may be shown: a password or another secret in it becomes ``***``."""
    # Imported here and below: psycopg takes longer than all of the rest, and a process without a DSN needs none.
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        parts = {key: str(value) for key, value in conninfo_to_dict(dsn).items()}
    except ProgrammingError:
        return "***"
    return make_conninfo(**{key: "***" if key in _secrets() else value for key, value in parts.items()})


@functools.cache
def _secrets() -> frozenset[str]:
    """The parameters that libpq itself marks as what a program should hide."""
    from psycopg import pq

    return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.dispchar == b"*")


def _integer(low: int, high: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return None
        return f"must be a whole number from {low} to {high}, not {value!r}"

    return check


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"must be True or False, not {value!r}"


def _string(value: Any) -> str | None:
    return None if isinstance(value, str) and value else f"must be a string, not {value!r}"


def _one_of(*choices: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if value in choices else f"must be one of {', '.join(choices)}, not {value!r}"

    return check


def _classes(value: Any) -> str | None:
    if isinstance(value, list | tuple) and all(
        isinstance(item, str) or (isinstance(item, type) and issubclass(item, BaseException)) for item in value
    ):
        return None
    return f"must be a list of exception classes or their import paths, not {value!r}"


def _strings(value: Any) -> str | None:
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return None
    return f"must be a list of strings, not {value!r}"


#: Key of the mapping of namespaces to DSNs.
_OTHERS = "*"


def _dsn(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return _one_dsn(value)
    for namespace, dsn in value.items():
        problem = None if namespace == _OTHERS else namespace_problem(namespace)
        if problem:
            return f"maps namespaces to DSNs, and {_OTHERS!r} to that of all others: {problem}"
        if problem := _one_dsn(dsn):
            return f"for namespace {namespace!r} {problem}"
    return None if value else "is an empty mapping: give a DSN, or map namespaces to DSNs"


def _one_dsn(value: Any) -> str | None:
    # The value is never repeated: it may hold a password.
    if not isinstance(value, str):
        return f"must be a string such as 'postgresql://user@host/database', not a {type(value).__name__}"
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        conninfo_to_dict(value)
    except ProgrammingError:
        return "is not a connection string that libpq understands, such as 'postgresql://user@host/database'"
    return None


_buffer = _integer(1, 10_000_000)
_milliseconds = _integer(1, 3_600_000)

_CHECKS: Mapping[str, Callable[[Any], str | None]] = {
    "dsn": _dsn,
    "templates": _strings,
    "apply_step_options": _boolean,
    "namespace": namespace_problem,
    "environment": _string,
    "config_dir": _string,
    "envelope": _one_of(*envelope.NAMES),
    "retryable": _classes,
    "confirm": _boolean,
    "confirm_timeout_ms": _milliseconds,
    "publishers": _strings,
    # jsonb takes 255 MiB, and a dead letter may be four times as large as the event.
    "max_event_bytes": _integer(1024, 50 * 1024 * 1024),
    "command_buffer_size": _buffer,
    # A commit that does not return is looked for once a second, by the thread that lingers.
    "linger_ms": _integer(0, 1000),
    "durable_buffer_size": _buffer,
    "spool_dir": _string,
    "spool_max_bytes": _integer(0, 1 << 50),
    "spool_when_full": _one_of("drop_newest", "drop_oldest"),
    "broadcast_buffer_size": _buffer,
    "deduplication_cache_size": _integer(0, 10_000_000),
    "ffi_integration_enabled": _boolean,
    "dispatch_timeout_ms": _milliseconds,
    "shutdown_drain_timeout_ms": _milliseconds,
    "metrics_port": _integer(0, 65_535),
    "metrics_host": _string,
    "log_format": _one_of("plain", "json"),
    "log_dropped_events": _boolean,
    "log_subscriber_errors": _boolean,
}
assert set(_CHECKS) == {f.name for f in fields(Settings)} - {"namespace_dsns"}


def _problems(given: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in given.items():
        check = _CHECKS.get(key)
        if check is None:
            yield key, f"unknown setting.{did_you_mean(PREFIX + key, (PREFIX + known for known in _CHECKS))}"
        elif value is not None and (problem := check(value)):
            yield key, problem
