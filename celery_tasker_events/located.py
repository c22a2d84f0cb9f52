"""YAML read safely, with the line of every key: plain data, no object tags, bounded in size and aliases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from celery_tasker_events.errors import ConfigurationError, Problem

__all__ = ["LocatedDict", "LocatedList", "load"]

MAX_BYTES = 1024 * 1024
MAX_ALIASES = 100
MAX_VALUES = 100_000
MAX_DEPTH = 100

_YAML = "tag:yaml.org,2002:"
_SCALARS = frozenset(_YAML + name for name in ("null", "bool", "int", "float", "str", "binary", "timestamp"))


class LocatedDict(dict[Any, Any]):
    """A mapping that knows its own line and that of each of its keys (1-based)."""

    line: int = 1
    lines: dict[Any, int]

    def line_of(self, key: Any) -> int:
        return self.lines.get(key, self.line)


class LocatedList(list[Any]):
    """A sequence that knows the line of each of its items (1-based)."""

    lines: list[int]


def load(path: Path) -> Any:
    """Read one YAML document.

    Raises:
        ConfigurationError: if the file can't be read, is not YAML, or passes a limit.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise _error(path, None, f"the file has {size} bytes, more than the {MAX_BYTES} that a template may have")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _error(path, None, f"can't be read: {error}") from error
    try:
        _check_shape(path, text)
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else _Builder(path, loader).build(node, 0)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _error(path, mark.line + 1 if mark else None, f"not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise _error(path, None, f"not YAML: {error}") from error
    except RecursionError as error:
        raise _error(path, None, f"nested more than {MAX_DEPTH} levels deep") from error


def _error(path: Path, line: int | None, message: str) -> ConfigurationError:
    return ConfigurationError([Problem(message, str(path), line)])


def _check_shape(path: Path, text: str) -> None:
    aliases = depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        aliases += isinstance(event, yaml.AliasEvent)
        line = event.start_mark.line + 1 if event.start_mark else None
        if aliases > MAX_ALIASES:
            raise _error(path, line, f"more than {MAX_ALIASES} aliases (*name)")
        if depth > MAX_DEPTH:
            raise _error(path, line, f"nested more than {MAX_DEPTH} levels deep")


class _Builder:
    def __init__(self, path: Path, loader: yaml.SafeLoader) -> None:
        self._path = path
        self._loader = loader
        self._values = 0

    def build(self, node: yaml.Node, depth: int) -> Any:
        # Aliases are expanded here, so this counts what a "billion laughs" document really holds.
        self._values += 1
        line = node.start_mark.line + 1
        if self._values > MAX_VALUES:
            raise _error(self._path, line, f"more than {MAX_VALUES} values once its aliases are expanded")
        if depth > MAX_DEPTH:
            raise _error(self._path, line, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(node, yaml.MappingNode) and node.tag == _YAML + "map":
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _YAML + "seq":
            items = LocatedList(self.build(item, depth + 1) for item in node.value)
            items.lines = [item.start_mark.line + 1 for item in node.value]
            return items
        return self._scalar(node, line)

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
            raise _error(self._path, line, f"tag {node.tag} is not allowed: plain values only")
        try:
            return self._loader.construct_object(node)
        except (yaml.constructor.ConstructorError, ValueError, LookupError, AttributeError) as error:
            # The last two are PyYAML's answers to an explicit tag on a value that is none, such as !!bool x.
            raise _error(self._path, line, f"bad value {node.value!r} for tag {node.tag}: {error}") from error

    def _mapping(self, node: yaml.MappingNode, depth: int) -> LocatedDict:
        mapping = LocatedDict()
        mapping.line = node.start_mark.line + 1
        mapping.lines = {}
        merges: list[tuple[yaml.Node, int]] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _YAML + "merge":
                sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                merges.extend((source, line) for source in sources)
                continue
            key = self.build(key_node, depth + 1)
            if isinstance(key, dict | list):
                raise _error(self._path, line, "a key must be a plain value")
            if key in mapping:
                raise _error(self._path, line, f"key {key!r} is given twice")
            mapping[key] = self.build(value_node, depth + 1)
            mapping.lines[key] = line
        for source, line in merges:
            self._merge(mapping, source, line, depth)
        return mapping

    def _merge(self, mapping: LocatedDict, source: yaml.Node, line: int, depth: int) -> None:
        """Add what a ``<<`` key names: a mapping's own keys win, then those of the mapping that is named first."""
        # PyYAML's flatten_mapping is not used: it forgets which keys are the mapping's own, and expands without a limit.
        merged = self.build(source, depth + 1)
        if not isinstance(merged, LocatedDict):
            raise _error(self._path, line, "'<<' takes a mapping or a list of mappings")
        for key in merged.keys() - mapping.keys():
            mapping[key] = merged[key]
            mapping.lines[key] = merged.lines[key]
