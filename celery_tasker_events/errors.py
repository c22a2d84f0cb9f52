"""The exceptions of the package, and how a problem in the configuration is worded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "ConfigurationError",
    "DatabaseNotReady",
    "EventTooLarge",
    "NotSerialisable",
    "PgmqMissing",
    "PgmqTooOld",
    "Problem",
    "PublishingError",
    "QueueMissing",
    "SchemaViolation",
    "SpoolFull",
    "SpoolUnusable",
    "StreamClosed",
    "TaskerEventsError",
    "UnknownQueue",
    "UnsupportedConnection",
    "did_you_mean",
]


class TaskerEventsError(Exception):
    """Base of every exception that this package raises."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in what the user configured.

    Attributes:
        message: What is wrong and what to do about it.
        source: Where it stands: a file's path, or a dotted name of an object. Empty if unknown.
        line: 1-based line in that file, or None.
    """

    message: str
    source: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line is not None else self.source
        return f"{place}: {self.message}" if place else self.message


class ConfigurationError(TaskerEventsError, ValueError):
    """Declarations, templates or settings are wrong; raised when the app starts.

    From a task it is raised only by an ``events.publish(..., connection=...)`` that asks for what there is not.

    Attributes:
        problems: Everything that was found, in the order of the sources.
    """

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PublishingError(TaskerEventsError):
    """An event could not be published as it is."""


class NotSerialisable(PublishingError):
    """A value has no JSON form."""


class EventTooLarge(PublishingError):
    """An event's message is larger than ``tasker_events_max_event_bytes``.

    Args:
        size: Bytes that it has.
        limit: Bytes that it may have.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the event is {size} bytes long, and tasker_events_max_event_bytes is {limit}: publish a reference to the data "
            "instead of the data, or raise the limit"
        )


class SchemaViolation(PublishingError):
    """A payload does not match the JSON Schema of its declaration.

    Attributes:
        path: Where in the payload: keys and indexes, from the outside to the inside.
        rule: The keyword of the schema that is broken, such as ``"type"``, and what it asks for; None if it is not known.
        got: What stands there instead.
    """

    def __init__(
        self, message: str, path: Sequence[str | int] = (), rule: tuple[str, object] | None = None, got: object = None
    ) -> None:
        super().__init__(message)
        self.path = tuple(path)
        self.rule = rule
        self.got = got


class NotPublishable(PublishingError):
    """An event can't be published from its dead letter, or still can't."""


class QueueMissing(PublishingError):
    """The database has PGMQ, but not the queue of an event's namespace."""

    def __init__(self, queue: str, namespace: str) -> None:
        super().__init__(
            f"there is no queue {queue!r} in the database of this connection. Create it with: "
            f"celery -A <your app> domain-events setup --namespace {namespace}"
        )


class UnsupportedConnection(PublishingError, TypeError):
    """What was given as ``connection`` is none that an event can be written with."""


class StreamClosed(TaskerEventsError):
    """An event stream has ended: no more events will come from it."""


class DatabaseNotReady(TaskerEventsError):
    """The database takes no events before an administrator has changed something."""


class PgmqMissing(DatabaseNotReady):
    """The database has no PGMQ schema."""

    def __init__(self, database: str) -> None:
        super().__init__(
            f"PGMQ is not installed in {database}. Install it and create the declared queues with: "
            "celery -A <your app> domain-events setup"
        )


class SpoolUnusable(TaskerEventsError):
    """The file that keeps events during an outage can't be read or written."""

    def __init__(self, path: str, reason: Exception) -> None:
        super().__init__(f"the spool {path} can't be used: {type(reason).__name__}: {reason}")


class SpoolFull(TaskerEventsError):
    """The file that keeps events during an outage has no room for more."""

    def __init__(self, path: str, max_bytes: int) -> None:
        super().__init__(f"the spool {path} is full: raise tasker_events_spool_max_bytes above {max_bytes}")


class PgmqTooOld(DatabaseNotReady):
    """The database has a PGMQ that lacks what is called."""

    def __init__(self, database: str, version: str | None) -> None:
        found = f"PGMQ {version}" if version else "PGMQ (installed as SQL, its version is unknown)"
        remedy = "alter extension pgmq update" if version else "the upgrade scripts of its releases, pgmq--<old>--<new>.sql"
        super().__init__(f"{found} in {database} is too old: 1.4 or newer is needed, best 1.5. Upgrade it with: {remedy}")


class HeadersMissing(DatabaseNotReady):
    """The database has a PGMQ whose messages have no headers."""

    def __init__(self) -> None:
        super().__init__(
            "PGMQ is older than 1.5 in this database and its messages have no headers: workers can publish to it, but nobody can "
            "read from it. Upgrade it with: alter extension pgmq update, or if it is installed as SQL with the upgrade scripts "
            "of its releases, pgmq--<old>--<new>.sql"
        )


class UnknownQueue(TaskerEventsError):
    """The database has no PGMQ queue of that name, nor one of a namespace of that name."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` with the closest known word, or all known words where none is close.

    Nothing is returned where no word is known.
    """
    choices = sorted(known)
    if not choices:
        return ""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(choices)}."
