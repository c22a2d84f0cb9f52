"""Typed Python for the payloads of events: TypedDicts, or pydantic models.

datamodel-code-generator does this for any schema, and brings Black, Jinja and a dozen other packages, whose versions change what
it writes. Payloads of events are plain JSON Schemas, and what is written here is the same whatever is installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.contract.python_names import class_name, field_name, is_plain_field, literal
from celery_tasker_events.contract.python_shapes import Alias, Field, Kind, Record, Shapes

__all__ = ["python_types"]

_LINE = 88
_TYPING = ("Any", "Literal", "Union")
_TYPED_DICT = ("NotRequired", "TypedDict")
_PYDANTIC = ("BaseModel", "ConfigDict", "Field")


def python_types(entries: Iterable[CatalogEntry], command: str, *, pydantic: bool = False) -> str:
    """Return a Python module with a type for the payload of each event, the same for the same events.

    Args:
        command: How to write it again.
        pydantic: Models in place of TypedDicts.
    """
    shapes = Shapes((*_TYPING, *_TYPED_DICT, *_PYDANTIC))
    events: dict[str, str] = {}
    for name, event, schema in _payloads(entries):
        events[shapes.add(name, schema)] = event
    defined: set[str] = set()
    blocks = []
    for shape in shapes.found:
        of_event = [f"# {events[shape.name]}"] if shape.name in events else []
        blocks.append("\n".join([*of_event, *_written(shape, defined, pydantic)]))
        defined.add(shape.name)
    kind = "pydantic models" if pydantic else "TypedDicts"
    header = f"# Payloads of domain events, as {kind}. To write this file again:\n#   {' '.join(command.split())}\n"
    imports = _imports(blocks, pydantic)
    return "\n\n\n".join([f"{header}\n{imports}" if imports else header.rstrip(), *blocks]) + "\n"


def _payloads(entries: Iterable[CatalogEntry]) -> Iterator[tuple[str, str, Mapping[str, Any] | None]]:
    """Each different payload with a name: the event's, with its version where several are declared."""
    events: dict[str, dict[tuple[str, str], CatalogEntry]] = {}
    for entry in sorted(entries, key=CatalogEntry.order):
        schema = json.dumps(entry.schema, sort_keys=True)
        events.setdefault(entry.event, {}).setdefault((entry.version, schema), entry)
    for event, variants in sorted(events.items()):
        has_versions = len({version for version, _ in variants}) > 1
        for entry in variants.values():
            name = class_name(event, f"V{entry.version}" if has_versions else "")
            yield name, " ".join([event, *entry.version.split()]), entry.schema


def _imports(blocks: Iterable[str], pydantic: bool) -> str:
    code = "\n".join(line for block in blocks for line in block.splitlines() if not line.lstrip().startswith("#"))
    words = set(re.findall(r"\w+", code))
    module, names = ("pydantic", _PYDANTIC) if pydantic else ("typing_extensions", _TYPED_DICT)
    groups = (("typing", _TYPING), (module, names))
    used = [(origin, [name for name in choice if name in words]) for origin, choice in groups]
    return "\n\n".join(f"from {origin} import {', '.join(names)}" for origin, names in used if names)


def _written(shape: Record | Alias, defined: set[str], pydantic: bool) -> Iterator[str]:
    if isinstance(shape, Alias):
        return _alias(shape)
    if pydantic:
        return _model(shape, defined)
    if all(is_plain_field(field.key) for field in shape.fields):
        return _typed_dict(shape, defined)
    return _typed_dict_of_any_keys(shape, defined)


def _alias(alias: Alias) -> Iterator[str]:
    line = f"{alias.name} = {alias.kind.text}"
    if len(line) <= _LINE or len(alias.kind.parts) < 2:
        yield line
    else:
        yield from (f"{alias.name} = {alias.kind.outer}[", *(f"    {part}," for part in alias.kind.parts), "]")


def _typed_dict(record: Record, defined: set[str]) -> Iterator[str]:
    yield from _remark(record.description)
    yield f"class {record.name}(TypedDict):"
    for field in record.fields:
        yield from _remark(field.description, "    ")
        yield from _entry(f"    {field.key}: ", field, defined)


def _typed_dict_of_any_keys(record: Record, defined: set[str]) -> Iterator[str]:
    yield from _remark(record.description)
    yield from (f"{record.name} = TypedDict(", f"    {literal(record.name)},", "    {")
    for field in record.fields:
        yield from _remark(field.description, "        ")
        yield from _entry(f"        {literal(field.key)}: ", field, defined, ",")
    yield from ("    },", ")")


def _entry(start: str, field: Field, defined: set[str], end: str = "") -> Iterator[str]:
    kind = _quoted(field.kind, defined)
    line = f"{start}{kind}{end}" if field.is_required else f"{start}NotRequired[{kind}]{end}"
    if field.is_required or len(line) <= _LINE:
        yield line
    else:
        indent = " " * (len(start) - len(start.lstrip()))
        yield from (f"{start}NotRequired[", f"{indent}    {kind}", f"{indent}]{end}")


def _model(record: Record, defined: set[str]) -> Iterator[str]:
    names: dict[str, str] = {}
    for field in record.fields:
        names[field.key] = field_name(field.key, names.values())
    yield from _remark(record.description)
    yield f"class {record.name}(BaseModel):"
    config = ['extra="forbid"'] if record.is_closed else []
    if any(key != name for key, name in names.items()):
        config += ["populate_by_name=True", "serialize_by_alias=True"]
    if config:
        yield from (*_call("    model_config = ConfigDict(", config), "")
    for field in record.fields:
        yield from _remark(field.description, "    ")
        kind = field.kind
        if not field.is_required and kind.text != "Any" and "None" not in (kind.text, *kind.parts):
            parts = (*(kind.parts if kind.outer == "Union" else (kind.text,)), "None")
            kind = Kind(" | ".join(parts), kind.uses, "Union", parts)
        start = f"    {names[field.key]}: {_quoted(kind, defined)}"
        if field.key != names[field.key]:
            default = [] if field.is_required else ["default=None"]
            yield from _call(f"{start} = Field(", [*default, f"alias={literal(field.key)}"])
        else:
            yield from _annotated(names[field.key], kind, defined, "" if field.is_required else " = None")


def _annotated(name: str, kind: Kind, defined: set[str], default: str) -> Iterator[str]:
    line = f"    {name}: {_quoted(kind, defined)}{default}"
    if len(line) <= _LINE or kind.outer != "Union" or not kind.uses <= defined:
        yield line
    else:
        one_line = f"        {kind.text}"
        several = [f"        {'| ' if number else ''}{part}" for number, part in enumerate(kind.parts)]
        yield from (f"    {name}: (", *([one_line] if len(one_line) <= _LINE else several), f"    ){default}")


def _quoted(kind: Kind, defined: set[str]) -> str:
    """The type, in quotes where a class that comes later stands in it."""
    return kind.text if kind.uses <= defined else literal(kind.text)


def _call(start: str, arguments: list[str]) -> Iterator[str]:
    line = f"{start}{', '.join(arguments)})"
    if len(line) <= _LINE:
        yield line
    else:
        yield from (start, *(f"        {argument}," for argument in arguments), "    )")


def _remark(description: str, indent: str = "") -> Iterator[str]:
    # Not "# …": a description of a field "type" must not be taken for a type comment.
    if description:
        yield f"{indent}#: {description}"
