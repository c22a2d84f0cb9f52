"""What a user declares: which event, when, by which path; in a mapping as YAML gives it, or with a decorator."""

from __future__ import annotations

import enum
import re
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from celery_tasker_events.errors import ConfigurationError, Problem, did_you_mean

__all__ = [
    "Condition",
    "DeclarationError",
    "DeclaredEvent",
    "DeliveryMode",
    "EventDeclaration",
    "declarations_of",
    "declared_proxies",
    "decorated",
    "event_name_problem",
    "namespace_problem",
    "publishes_events",
]

T = TypeVar("T")

EVENT_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
NAMESPACE = re.compile(r"[a-z0-9_]+")
PUBLISHER_NAME = re.compile(r"[A-Za-z_]\w*((\.|::|:)[A-Za-z_]\w*)*")

# PGMQ's validate_queue_name allows 47 characters; the longest queue of a namespace is <namespace>_domain_events_dlq.
MAX_NAMESPACE_LENGTH = 47 - len("_domain_events_dlq")

ATTRIBUTE = "__publishes_events__"


class Condition(str, enum.Enum):
    """On which outcome of a step its event is published."""

    SUCCESS = "success"
    FAILURE = "failure"
    RETRYABLE_FAILURE = "retryable_failure"
    PERMANENT_FAILURE = "permanent_failure"
    ALWAYS = "always"


class DeliveryMode(str, enum.Enum):
    """By which path an event travels: PGMQ (durable), the in-process bus (fast), or both (broadcast)."""

    DURABLE = "durable"
    FAST = "fast"
    BROADCAST = "broadcast"

    def __init__(self, value: str) -> None:
        self.reaches_pgmq = value != "fast"
        self.reaches_bus = value != "durable"


class DeclarationError(ConfigurationError):
    """A declaration is wrong.

    Attributes:
        by_field: The problems as (field name or None, message), for callers that know each field's line.
    """

    def __init__(self, by_field: Sequence[tuple[str | None, str]]) -> None:
        self.by_field = tuple(by_field)
        super().__init__([Problem(message) for _, message in by_field])


@dataclass(frozen=True)
class EventDeclaration:
    """One declared event of one step.

    Attributes:
        name: Event name, two or more segments of ``[a-z0-9_]+`` joined by dots.
        condition: The outcome on which it is published.
        delivery_mode: By which path it travels.
        description: For people and catalogs.
        schema: JSON Schema of the payload (draft-07 unless ``$schema`` says otherwise), or a class that it is derived from: a
            pydantic model, a dataclass or a TypedDict; or None.
        publisher: Name or import path of a custom publisher, or None for the generic one.
        version: The event's version, ``event_version`` on the wire.
        confirm: Whether the task's thread waits until a durable event is committed.
        namespace: Namespace of its queue, or None for that of the template or the settings.
    """

    name: str
    condition: Condition = Condition.SUCCESS
    delivery_mode: DeliveryMode = DeliveryMode.DURABLE
    description: str = ""
    schema: Mapping[str, Any] | type | None = None
    publisher: str | None = None
    version: str = "1.0"
    confirm: bool = False
    namespace: str | None = None

    @classmethod
    def from_mapping(cls, fields: Mapping[Any, Any]) -> EventDeclaration:
        """Check a mapping shaped as in YAML and make a declaration of it.

        Raises:
            DeclarationError: with every problem found, not just the first.
        """
        if not isinstance(fields, Mapping):
            raise DeclarationError([(None, f"an event is declared by a mapping with a 'name', not {fields!r}")])
        problems = list(_problems(fields))
        if problems:
            raise DeclarationError(problems)
        given = {key: value for key, value in fields.items() if value is not None}
        if "condition" in given:
            given["condition"] = Condition(given["condition"])
        if "delivery_mode" in given:
            given["delivery_mode"] = DeliveryMode(given["delivery_mode"])
        return cls(**given)

    @property
    def needs_start(self) -> bool:
        """Whether somebody has to note when its step begins, as Celery tells of a success alone how long it took."""
        return self.condition is not Condition.SUCCESS


class DeclaredEvent(NamedTuple):
    """A declaration, where it comes from, and where in that file it and its fields stand (line None: not a file)."""

    declaration: EventDeclaration
    source: str
    line: int | None
    field_lines: Mapping[str, int]


def event_name_problem(name: object) -> str | None:
    """Return why this is not an event name, or None."""
    if isinstance(name, str) and EVENT_NAME.fullmatch(name):
        return None
    return f"bad event name {name!r}: two or more segments of a-z, 0-9 and _ joined by dots, such as 'payment.processed'"


def namespace_problem(namespace: object) -> str | None:
    """Return why this is not a namespace, or None."""
    if not isinstance(namespace, str) or not NAMESPACE.fullmatch(namespace):
        return f"bad namespace {namespace!r}: a-z, 0-9 and _ only, such as 'payments'"
    if len(namespace) > MAX_NAMESPACE_LENGTH:
        return f"namespace {namespace!r} is too long: {MAX_NAMESPACE_LENGTH} characters at most, as PGMQ limits queue names"
    return None


def _problems(fields: Mapping[Any, Any]) -> Iterable[tuple[str | None, str]]:
    known = EventDeclaration.__dataclass_fields__
    for key in fields:
        if key not in known:
            yield str(key), f"unknown field {key!r} in an event declaration.{did_you_mean(str(key), known)}"
    if fields.get("name") is None:
        yield None, "an event declaration needs a 'name', such as 'payment.processed'"
    elif problem := event_name_problem(fields["name"]):
        yield "name", problem
    yield from _enum_problem(fields, "condition", Condition)
    yield from _enum_problem(fields, "delivery_mode", DeliveryMode)
    for key in ("description", "version", "publisher"):
        if not isinstance(fields.get(key, ""), str | None):
            yield key, f"{key} must be a string, not {fields[key]!r}" + (" (quote it)" if key == "version" else "")
    if not isinstance(fields.get("confirm", False), bool | None):
        yield "confirm", f"confirm must be true or false, not {fields['confirm']!r}"
    publisher = fields.get("publisher")
    if isinstance(publisher, str) and not PUBLISHER_NAME.fullmatch(publisher):
        yield "publisher", f"bad publisher name {publisher!r}: identifiers joined by '.', ':' or '::'"
    if not isinstance(fields.get("schema"), Mapping | type | None):
        yield "schema", f"schema must be a mapping (a JSON Schema), or in Python a class, not {fields['schema']!r}"
    if fields.get("namespace") is not None and (problem := namespace_problem(fields["namespace"])):
        yield "namespace", problem


def _enum_problem(fields: Mapping[Any, Any], key: str, kind: type[enum.Enum]) -> Iterable[tuple[str | None, str]]:
    value = fields.get(key)
    values = [str(member.value) for member in kind]
    if value is not None and value not in values:
        yield key, f"unknown {key} {value!r}.{did_you_mean(str(value), values)}"


def publishes_events(declaration: str | Mapping[str, Any] | Sequence[Mapping[str, Any]], /, **fields: Any) -> Callable[[T], T]:
    """Declare events for a task: above or below ``@app.task`` or ``@shared_task``, on a task class or its ``run``.

    Args:
        declaration: An event's name, with the other fields of :class:`EventDeclaration` as keywords;
            or a mapping, or a list of mappings, shaped as ``publishes_events`` in a YAML template.

    Raises:
        DeclarationError: at import, if a field is wrong.
    """
    if "name" in fields:
        raise DeclarationError([("name", "the event's name is given twice: as the first argument and as name=")])
    if isinstance(declaration, str):
        mappings: Sequence[Mapping[str, Any]] = [{"name": declaration, **fields}]
    elif fields:
        raise DeclarationError([(None, "give either a name with keywords or mappings, not both")])
    else:
        mappings = declaration if isinstance(declaration, list | tuple) else [cast("Mapping[str, Any]", declaration)]
    declarations = tuple(EventDeclaration.from_mapping(mapping) for mapping in mappings)

    def declare(task: T) -> T:
        _declare(task, declarations)
        decorated.add(declarations)
        return task

    return declare


class StartListener(Protocol):
    """Can be told when steps begin."""

    def heed(self) -> None: ...


class Decorated:
    """What decorators have declared in this process, for any app.

    Attributes:
        needs_starts: Whether one of the events needs to know when its step began.
    """

    def __init__(self) -> None:
        self.needs_starts = False
        self._listeners: weakref.WeakSet[StartListener] = weakref.WeakSet()

    def tell(self, listener: StartListener) -> None:
        """Let it heed starts from the moment on in which one is needed; it is held weakly."""
        self._listeners.add(listener)

    def add(self, declarations: Iterable[EventDeclaration]) -> None:
        if not self.needs_starts and any(declaration.needs_start for declaration in declarations):
            self.needs_starts = True
            for listener in list(self._listeners):
                listener.heed()


decorated = Decorated()

# Proxies that @shared_task returned: whose task they are depends on the app, so the catalog of each app resolves them.
_shared_proxies: list[tuple[Any, tuple[EventDeclaration, ...]]] = []


def _declare(target: Any, declarations: tuple[EventDeclaration, ...]) -> None:
    # type() sees the proxy itself, where an attribute look-up would make Celery evaluate the task too early and miss
    # a later config_from_object.
    kind = type(target)
    if hasattr(kind, "__then__"):
        target.__then__(lambda: _declare(target._get_current_object(), declarations))
    elif hasattr(kind, "_get_current_object"):
        _shared_proxies.append((target, declarations))
    else:
        owner = target if isinstance(target, type) or not hasattr(target, "run") else type(target)
        setattr(owner, ATTRIBUTE, declarations + tuple(owner.__dict__.get(ATTRIBUTE, ())))


def declared_proxies() -> Sequence[tuple[Any, tuple[EventDeclaration, ...]]]:
    """What was declared on the proxies of shared tasks, as (proxy, declarations)."""
    return tuple(_shared_proxies)


def declarations_of(task: Any) -> tuple[EventDeclaration, ...]:
    """The declarations that a decorator left on a task's class, its bases, or its ``run``; topmost decorator first."""
    found: list[EventDeclaration] = []
    for kind in type(task).__mro__:
        found.extend(kind.__dict__.get(ATTRIBUTE, ()))
    # autoretry keeps the function that it wraps here.
    run = getattr(task, "_orig_run", None) or task.run
    found.extend(getattr(run, ATTRIBUTE, ()))
    unique: list[EventDeclaration] = []
    for declaration in found:
        if declaration not in unique:
            unique.append(declaration)
    return tuple(unique)
