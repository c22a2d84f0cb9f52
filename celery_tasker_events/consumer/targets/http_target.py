"""Webhooks: an HTTP POST for each event, signed as Standard Webhooks has it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.failing import Rejected
from celery_tasker_events.consumer.targets.base import (
    NotNow,
    Outcome,
    Target,
    TargetOptions,
    TargetUnavailable,
    content_type_of,
    headers_of,
)
from celery_tasker_events.consumer.tracing import continuing
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.version import __version__

__all__ = ["HttpTarget", "signature"]

#: Answers that speak of the receiver as a whole, not of the event.
_WHOLE = frozenset({429, 502, 503, 504})

#: Client errors that are none of the event's.
_LATER = frozenset({408, 425})

#: What Standard Webhooks writes before a secret in base64.
_ENCODED = "whsec_"


def signature(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header ``webhook-signature``: HMAC-SHA256 over id, time and body.

    Args:
        secret: ``whsec_`` and base64, or any other text.
        timestamp: Seconds since 1970.

    Raises:
        ConfigurationError: if there is no base64 after ``whsec_``.
    """
    digest = hmac.new(_key(secret), f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _key(secret: str) -> bytes:
    if not secret.startswith(_ENCODED):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_ENCODED), validate=True)
    except binascii.Error as error:
        raise ConfigurationError(f"the secret begins with {_ENCODED}, and no base64 follows") from error


class HttpTarget(Target):
    """``https://…``: any answer of 2xx confirms the event."""

    schemes = ("http", "https")
    takes = frozenset({"secret", "timeout"})
    # Each answer is an event's own; several at a time are several threads' work.
    batch_size = 1

    def __init__(self, url: str, options: TargetOptions) -> None:
        try:
            host = urlsplit(url).hostname
        except ValueError:
            host = None
        if not host:
            raise ConfigurationError("the URL of the webhook has no host")
        super().__init__(url, options)
        try:
            import urllib3
        except ImportError as error:
            raise ConfigurationError("webhooks need urllib3: pip install 'celery-tasker-events[forward]'") from error
        if options.secret is not None:
            if not options.secret:
                raise ConfigurationError("the secret of the webhook is empty")
            _key(options.secret)
        self._urllib3 = urllib3
        self._timeout = 30.0 if options.timeout is None else options.timeout
        self._pool: Any = None

    @property
    def shown(self) -> str:
        """Scheme and host: paths of webhooks are often secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def open(self) -> None:
        self._pool = self._urllib3.PoolManager(maxsize=1, retries=False, timeout=self._timeout)

    def publish(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        return [self._post(delivery) for delivery in batch]

    def close(self) -> None:
        if self._pool is not None:
            self._pool.clear()
            self._pool = None

    def _post(self, delivery: Delivery) -> Outcome:
        exceptions = self._urllib3.exceptions
        try:
            with continuing(delivery):
                answer = self._pool.request(
                    "POST", self.url, body=delivery.body.encode(), headers=self._headers(delivery), redirect=False
                )
        except exceptions.ReadTimeoutError:
            return NotNow(f"{self.shown} did not answer in {self._timeout:g} s")
        except exceptions.LocationValueError as error:
            raise ConfigurationError(f"{self.shown}: the URL can't be used") from error
        except exceptions.HTTPError as error:
            # Its text has the whole URL in it.
            cause = error.__cause__ or error
            return TargetUnavailable(f"{self.shown}: {type(cause).__name__}")
        return _judge(self.shown, answer.status, self._after(answer.headers.get("Retry-After")))

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        event, now = delivery.event, int(time.time())
        headers = {
            "content-type": content_type_of(delivery),
            "user-agent": f"celery-tasker-events/{__version__}",
            "webhook-id": event.event_id,
            "webhook-timestamp": str(now),
            "x-event-name": event.event_name,
            "idempotency-key": event.metadata.idempotency_key,
        }
        for name in ("traceparent", "tracestate"):
            if name in (more := headers_of(delivery)):
                headers[name] = more[name]
        if self.options.secret is not None:
            headers["webhook-signature"] = signature(self.options.secret, event.event_id, now, delivery.body.encode())
        # An event is anybody's text; what no header may hold is left out of it.
        return {name: value for name, value in headers.items() if value.isascii() and value.isprintable()}

    def _after(self, value: str | None) -> float | None:
        if value is None:
            return None
        try:
            return float(max(0, self._urllib3.Retry().parse_retry_after(value)))
        except self._urllib3.exceptions.InvalidHeader:
            return None


def _judge(shown: str, status: int, after: float | None) -> Outcome:
    """Return what an answer says about the event."""
    told = f"{shown} has answered {status}"
    if 200 <= status < 300:
        return None
    if status in _WHOLE:
        return TargetUnavailable(told, after)
    if status in _LATER or status >= 500:
        return NotNow(told, after)
    if status < 400:
        return TargetUnavailable(f"{told}: redirects are not followed, give the new URL")
    return Rejected(told)
