"""What a target is: it is given events in batches, and answers for each whether whoever is behind it has it."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias

from celery_tasker_events import envelope, values
from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.failing import Rejected
from celery_tasker_events.errors import ConfigurationError, TaskerEventsError

__all__ = [
    "NotNow",
    "Outcome",
    "Target",
    "TargetGone",
    "TargetOptions",
    "TargetUnavailable",
    "content_type_of",
    "headers_of",
    "is_amqp",
    "masked",
    "missing_package",
    "transport_options",
]

_PASSWORD = re.compile(r"(://[^:/@?#;]*):[^;]*@")


class _Later(TaskerEventsError):
    """Nothing was taken now.

    Args:
        after: Seconds after which to try again, if the target has said so.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class TargetUnavailable(_Later):
    """The target can't be used now, whichever event it is: it is waited for, and no event is to blame."""


class NotNow(_Later):
    """The target did not take this event, but may take it later; others may go on meanwhile."""


class TargetGone(TaskerEventsError):
    """Whoever read what was published has had enough, as ``head`` has: forwarding ends."""


#: What became of one event: None: the target has it. Else why not.
Outcome: TypeAlias = TargetUnavailable | NotNow | Rejected | None


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """What a target can be given beside its URL. None means: its own default.

    Attributes:
        exchange: Name of the exchange.
        routing_key: Template of the routing key, such as ``"{namespace}.{event_name}"``.
        queue: Name of a queue that is made, and gets every event.
        unroutable: What becomes of an event that no queue is bound for: ``"retry"`` or ``"drop"``.
        secret: What webhooks are signed with.
        broker: URL of another Celery app's broker.
        timeout: Seconds that the target may take to answer.
    """

    exchange: str | None = None
    routing_key: str | None = None
    queue: str | None = None
    unroutable: str | None = None
    secret: str | None = None
    broker: str | None = None
    timeout: float | None = None

    @property
    def given(self) -> frozenset[str]:
        """Names of the options that are not left to the target."""
        return frozenset(field.name for field in fields(self) if getattr(self, field.name) is not None)


class Target(abc.ABC):
    """Publishes events somewhere else. Each thread that forwards has one of its own.

    Attributes:
        schemes: What its URLs begin with.
        takes: The options that mean something to it.
        batch_size: How many events it is given at once, at most.

    Raises:
        ConfigurationError: if the URL or an option is wrong.
    """

    schemes: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[frozenset[str]] = frozenset()
    batch_size: ClassVar[int] = 500

    def __init__(self, url: str, options: TargetOptions) -> None:
        self.url = url
        self.options = options
        if unknown := sorted(options.given - self.takes):
            raise ConfigurationError(f"{self.shown} has no use for {' and '.join(unknown)}")

    @property
    def shown(self) -> str:
        """Its URL without what is secret in it."""
        return masked(self.url)

    @property
    def system(self) -> str:
        """What OpenTelemetry's ``messaging.system`` calls it."""
        return "rabbitmq" if is_amqp(self.url) else self.url.partition(":")[0].partition("+")[0]

    @property
    def destination(self) -> str:
        """What it publishes to there, for people; without what is secret."""
        return self.shown

    @abc.abstractmethod
    def open(self) -> None:
        """Get ready to publish; called again after :meth:`close`.

        Raises:
            TargetUnavailable: if it can't be used now.
            ConfigurationError: if it can't be used like this at all.
        """

    @abc.abstractmethod
    def publish(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Publish events in this order, wait until the target has confirmed them, and say what became of each.

        Raises:
            TargetUnavailable: if nothing is known of any of them.
            TargetGone: if forwarding is to end.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of what is open, if anything is; it raises nothing."""


def masked(url: str) -> str:
    """Return a URL, or several with ``;`` between, without passwords and without what comes after a question mark."""
    return _PASSWORD.sub(r"\1:**@", url).partition("?")[0]


def is_amqp(url: str) -> bool:
    """Return whether kombu speaks AMQP with the broker of a URL, which confirms then."""
    return url.partition(":")[0] in ("amqp", "amqps", "pyamqp")


def transport_options(url: str, timeout: float) -> dict[str, Any]:
    """Return kombu's options without which a broker that hangs would be waited for without end.

    Args:
        timeout: Seconds that it may take to answer.
    """
    if is_amqp(url):
        return {"read_timeout": timeout, "write_timeout": timeout}
    if url.partition(":")[0].partition("+")[0] in ("redis", "rediss", "sentinel"):
        return {"socket_timeout": timeout, "socket_connect_timeout": min(timeout, 10.0), "retry_on_timeout": False}
    return {}


def missing_package(shown: str, error: ImportError) -> ConfigurationError:
    """Return what to raise where a transport of kombu lacks its library.

    Args:
        shown: The URL, fit to be shown.
    """
    return ConfigurationError(
        f"{shown} needs a package that is not installed: {error}. For Redis: pip install 'celery-tasker-events[forward]'; for "
        "another transport of kombu, its extra: pip install 'kombu[sqs]' and the like"
    )


def content_type_of(delivery: Delivery) -> str:
    """Return the media type of an event's message."""
    form = envelope.recognise(values.decode(delivery.body)) or envelope.Envelope
    return form.content_type


def headers_of(delivery: Delivery) -> Mapping[str, Any]:
    """Return what a message's headers say, for whoever does not look into the message."""
    metadata = delivery.event.metadata
    headers = {
        "event_version": delivery.event.event_version,
        "namespace": metadata.namespace,
        "idempotency_key": metadata.idempotency_key,
        "fired_by": metadata.fired_by,
    }
    for name in ("traceparent", "tracestate", "replay_id", "replayed_at"):
        if isinstance(value := delivery.headers.get(name), str):
            headers[name] = value
    return headers
