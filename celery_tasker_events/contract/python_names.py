"""Names and literals of generated Python, as ruff formats them."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterable

__all__ = ["class_name", "field_name", "is_plain_field", "literal", "nested_name", "unique"]

#: Attributes of pydantic's BaseModel that a field must not hide.
_PYDANTICS_OWN = frozenset({"construct", "copy", "dict", "from_orm", "json", "parse_file", "parse_obj", "parse_raw", "schema"})
_PYDANTICS_OWN |= {"schema_json", "update_forward_refs", "validate"}


_MAX_NAME = 60


def class_name(*words: str) -> str:
    """Return the words in CapWords: ``payment.processed`` becomes ``PaymentProcessed``."""
    parts = [part for word in words for part in re.split(r"[^A-Za-z0-9]+", word) if part]
    name = "".join(part[0].upper() + part[1:] for part in parts)
    return name if name[:1].isalpha() else f"Event{name}"


def nested_name(outer: str, inner: str) -> str:
    """Return a name for what is inside of a class: with its name, as long as that leaves room in a line."""
    name = class_name(outer, inner)
    return name if len(name) <= _MAX_NAME else class_name(inner)[:_MAX_NAME]


def unique(name: str, taken: Iterable[str]) -> str:
    """Return the name, with a number after it if it is taken."""
    taken = set(taken)
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}{number}"
    return candidate


def is_plain_field(name: str) -> bool:
    """Whether a key can be a name in a class: Python would change what is not ASCII, or begins with two underscores."""
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("__")


def field_name(key: str, taken: Iterable[str]) -> str:
    """Return a name for a key in a pydantic model: itself if it may be."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", key).lstrip("_")
    if not name or name[0].isdigit():
        name = f"field_{name}"
    if keyword.iskeyword(name) or name in _PYDANTICS_OWN or name.startswith("model_"):
        name = f"{name}_" if not name.startswith("model_") else f"field_{name}"
    return unique(name, taken)


def literal(text: str) -> str:
    """Return a string in double quotes, or in single ones where that saves backslashes."""
    quoted = json.dumps(text, ensure_ascii=not text.isprintable())
    if '"' in text and "'" not in text:
        return "'" + quoted[1:-1].replace('\\"', '"') + "'"
    return quoted
