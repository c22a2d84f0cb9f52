"""Log records as JSON, one object a line: a formatter for anyone's handlers, and what puts it in place for our records."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

from celery_tasker_events import values
from celery_tasker_events.errors import NotSerialisable
from celery_tasker_events.telemetry.log import logger as our_logger

__all__ = ["JsonFormatter", "write_as_json"]

#: What every record has by itself; the rest came with ``extra``.
_STANDARD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats any record as one line of JSON.

    The object has ``timestamp`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, ``process`` (id), ``thread`` (name),
    ``service_name`` if it is known, the record's ``extra`` fields, and ``exc_info`` and ``stack_info`` as text if the
    record has them. An ``extra`` field of one of these names is left out, and a value without a JSON form becomes its
    ``repr()``: no record is lost.

    Args:
        service_name: By default what ``OTEL_SERVICE_NAME`` or ``OTEL_RESOURCE_ATTRIBUTES`` says.
    """

    def __init__(self, service_name: str | None = None) -> None:
        super().__init__()
        self._service_name = service_name or _service_name()

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "timestamp": _timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "process": record.process,
            "thread": record.threadName,
        }
        if self._service_name:
            fields["service_name"] = self._service_name
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        fields = {**fields, **{key: value for key, value in extra.items() if key not in fields}}
        if record.exc_info:
            fields["exc_info"] = self.formatException(record.exc_info)
        elif record.exc_text:
            # A handler before this one has formatted it already, and taken the exception away.
            fields["exc_info"] = record.exc_text
        if record.stack_info:
            fields["stack_info"] = self.formatStack(record.stack_info)
        return _as_json(fields)


class _OurRecordsAsJson(logging.Formatter):
    """Our own records as JSON, and all others as they were before."""

    def __init__(self, others: logging.Formatter | None) -> None:
        super().__init__()
        self._json = JsonFormatter()
        self._others = others or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        is_ours = record.name == our_logger.name or record.name.startswith(f"{our_logger.name}.")
        return (self._json if is_ours else self._others).format(record)


def write_as_json() -> None:
    """Write this package's records as JSON wherever they are written to a stream or a file; calling it again is harmless.

    The handlers stay as they are, and so do the records of everybody else. A handler that sends records elsewhere than
    to a stream has its own form for them, which is left alone.
    """
    for handler in _handlers_of(our_logger):
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler.formatter, _OurRecordsAsJson | JsonFormatter):
            handler.setFormatter(_OurRecordsAsJson(handler.formatter))


def _handlers_of(logger: logging.Logger) -> Iterator[logging.Handler]:
    current: logging.Logger | None = logger
    while current is not None:
        yield from current.handlers
        current = current.parent if current.propagate else None


def _service_name() -> str | None:
    if name := os.environ.get("OTEL_SERVICE_NAME"):
        return name
    pairs = (pair.partition("=") for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    return next((value.strip() for key, _, value in pairs if key.strip() == "service.name"), None) or None


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit the message are told beside it
        return f"{record.msg} {_repr(record.args)}"


def _timestamp(created: float) -> str:
    moment = datetime.datetime.fromtimestamp(created, datetime.timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _as_json(fields: Mapping[str, Any]) -> str:
    try:
        return values.encode(fields).decode()
    except NotSerialisable:
        return values.encode({_clean(key): _json_or_repr(value) for key, value in fields.items()}).decode()


def _json_or_repr(value: Any) -> Any:
    try:
        return values.decode(values.encode(value))
    except NotSerialisable:
        pass
    return _clean(value if isinstance(value, str) else _repr(value))


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr() raised {type(error).__name__}>"


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
