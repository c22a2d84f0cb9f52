"""What Python types a JSON Schema has: records with their fields, and names for what is too long for a field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from celery_tasker_events.contract.flattening import flattened
from celery_tasker_events.contract.python_names import literal, nested_name, unique

__all__ = ["ANY", "Alias", "Field", "Kind", "Record", "Shapes"]

_SIMPLE = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_MAX_DEPTH = 30

#: A type with more characters gets a name of its own.
_SHORT = 50


class Kind(NamedTuple):
    """A type as it is written, the records and names that it is made of, and its parts if it is a union or a literal."""

    text: str
    uses: frozenset[str] = frozenset()
    outer: str = ""
    parts: tuple[str, ...] = ()


ANY = Kind("Any")


class Field(NamedTuple):
    key: str
    kind: Kind
    is_required: bool
    description: str


class Record(NamedTuple):
    """An object with named fields. A closed one has no others."""

    name: str
    fields: Sequence[Field]
    description: str
    is_closed: bool


class Alias(NamedTuple):
    """A name for a type."""

    name: str
    kind: Kind


class Shapes:
    """The types of one module, each after those that it is made of, save for what refers to itself.

    Args:
        reserved: Names that are taken.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self.found: list[Record | Alias] = []
        self._names = set(reserved)
        self._root: Mapping[str, Any] = {}
        self._payload_name = ""
        self._by_reference: dict[str, Kind] = {}
        self._incomplete: set[str] = set()

    def add(self, name: str, schema: Mapping[str, Any] | None) -> str:
        """Add the type of a payload; return its name."""
        self._root, self._payload_name, self._by_reference = schema or {}, name, {}
        # The whole is referred to as "#", and may be from inside.
        kind = self._kind({"$ref": "#"}, name, 0) if schema is not None else ANY
        if any(shape.name == kind.text for shape in self.found):
            return kind.text
        return self._named(kind, name).text

    def _kind(self, schema: Any, name: str, depth: int) -> Kind:
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
            return ANY
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in self._by_reference:
                return self._by_reference[reference]
            if reference != "#":
                name = nested_name(self._payload_name, reference.rpartition("/")[2])
        try:
            flat = flattened(self._root, schema)
        except (LookupError, ValueError):
            return ANY
        if not _is_record(flat):
            # What is no record has no name by which it could refer to itself.
            self._remember(reference, ANY)
            return self._remember(reference, self._plain(flat, name, depth))
        name = unique(name, self._names)
        self._names.add(name)
        self._remember(reference, Kind(name, frozenset({name})))
        return self._record(flat, name, depth)

    def _remember(self, reference: Any, kind: Kind) -> Kind:
        if isinstance(reference, str):
            self._by_reference[reference] = kind
        return kind

    def _record(self, schema: Mapping[str, Any], name: str, depth: int) -> Kind:
        self._incomplete.add(name)
        required = set(schema.get("required") or ())
        fields = [
            Field(key, self._kind(inner, nested_name(name, key), depth + 1), key in required, _description(inner))
            for key, inner in schema["properties"].items()
        ]
        self._incomplete.remove(name)
        self.found.append(Record(name, fields, _description(schema), schema.get("additionalProperties") is False))
        return Kind(name, frozenset({name}))

    def _plain(self, schema: Mapping[str, Any], name: str, depth: int) -> Kind:
        if "const" in schema or isinstance(schema.get("enum"), list):
            return self._short(_literals([schema["const"]] if "const" in schema else schema["enum"]), name)
        for keyword in ("anyOf", "oneOf"):
            if isinstance(schema.get(keyword), list):
                choices = enumerate(schema[keyword], 1)
                return self._short(_union([self._kind(choice, f"{name}{number}", depth + 1) for number, choice in choices]), name)
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._short(_union([self._kind({**schema, "type": one}, name, depth + 1) for one in kind]), name)
        if kind == "array":
            items = schema.get("items") if "prefixItems" not in schema else None
            inner = self._kind(items, f"{name}Item", depth + 1)
            return self._short(Kind(f"list[{inner.text}]", inner.uses), name)
        if kind == "object":
            inner = self._kind(schema.get("additionalProperties"), f"{name}Value", depth + 1)
            return self._short(Kind(f"dict[str, {inner.text}]", inner.uses), name)
        return Kind(_SIMPLE[kind]) if isinstance(kind, str) and kind in _SIMPLE else ANY

    def _short(self, kind: Kind, name: str) -> Kind:
        """Return a type that is short enough for a field; a name can't stand for what is not complete yet."""
        if len(kind.text) <= _SHORT or not self._incomplete.isdisjoint(kind.uses):
            return kind
        return self._named(kind, name)

    def _named(self, kind: Kind, name: str) -> Kind:
        name = unique(name, self._names)
        self._names.add(name)
        self.found.append(Alias(name, kind))
        return Kind(name, frozenset({name}))


def _is_record(schema: Mapping[str, Any]) -> bool:
    is_object = schema.get("type", "object") == "object"
    return is_object and bool(schema.get("properties")) and not {"const", "enum", "anyOf", "oneOf"} & schema.keys()


def _literals(values: Sequence[Any]) -> Kind:
    if not values or not all(value is None or isinstance(value, str | int) for value in values):
        return ANY
    texts = tuple(dict.fromkeys(literal(value) if isinstance(value, str) else repr(value) for value in values))
    return Kind(f"Literal[{', '.join(texts)}]", outer="Literal", parts=texts)


def _union(kinds: Sequence[Kind]) -> Kind:
    parts = dict.fromkeys(part for kind in kinds for part in (kind.parts if kind.outer == "Union" else (kind.text,)))
    if "Any" in parts or not parts:
        return ANY
    if "float" in parts:
        parts.pop("int", None)
    uses = frozenset[str]().union(*(kind.uses for kind in kinds))
    return Kind(" | ".join(parts), uses, "Union", tuple(parts)) if len(parts) > 1 else Kind(next(iter(parts)), uses)


def _description(schema: Any) -> str:
    text = schema.get("description") if isinstance(schema, Mapping) else None
    return " ".join(text.split()) if isinstance(text, str) else ""
