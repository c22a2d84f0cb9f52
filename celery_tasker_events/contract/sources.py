"""Where declared events are read from, to be compared: task templates, a JSON catalog, an AsyncAPI document."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from celery_tasker_events.contract.asyncapi import entries_of_document
from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.contract.templates import template_entries
from celery_tasker_events.errors import ConfigurationError, Problem
from celery_tasker_events.schema import PayloadValidator
from celery_tasker_events.template import load_templates

__all__ = ["read_entries"]

_YAML = (".yaml", ".yml")


def read_entries(source: str, environment: str | None = None) -> list[CatalogEntry]:
    """Read what a path leads to.

    Args:
        source: A folder, or a pattern: all task templates (.yaml, .yml) in it; a task template; what ``catalog --format json``,
            ``catalog --format asyncapi`` or ``check --format json`` wrote.
        environment: Which ``environments`` overrides of the templates count; None: none.

    Raises:
        ConfigurationError: with everything that is wrong with it.
    """
    entries = _entries(source, environment)
    problems = list(_schema_problems(entries, source))
    if problems:
        raise ConfigurationError(problems)
    return entries


def _schema_problems(entries: list[CatalogEntry], source: str) -> Iterator[Problem]:
    for entry in entries:
        try:
            if entry.schema is not None:
                PayloadValidator(entry.schema)
        except ConfigurationError as error:
            yield Problem(f"event {entry.event!r}: {error}", source)


def _entries(source: str, environment: str | None) -> list[CatalogEntry]:
    path = Path(source)
    if path.is_dir():
        patterns = [f"{glob.escape(source)}/**/*{suffix}" for suffix in _YAML]
        return _templates([pattern for pattern in patterns if glob.glob(pattern, recursive=True)] or patterns[:1], environment)
    if not path.exists():
        return _templates([source], environment)
    document = _document(path)
    if isinstance(document, Mapping) and "asyncapi" in document:
        return entries_of_document(document)
    if path.suffix == ".json":
        events = document.get("events") if isinstance(document, Mapping) else document
        if not isinstance(events, list):
            raise ConfigurationError([Problem("neither a JSON catalog nor an AsyncAPI document", source)])
        return [CatalogEntry.from_json(element) for element in events]
    return _templates([glob.escape(source)], environment)


def _templates(patterns: list[str], environment: str | None) -> list[CatalogEntry]:
    loaded = load_templates(patterns, environment)
    if loaded.problems:
        raise ConfigurationError(loaded.problems)
    return [entry for template in loaded.templates for entry, _ in template_entries(template)]


def _document(path: Path) -> Any:
    """The file's content; None where it can't be read as it is: what reads a template says why."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        if path.suffix == ".json":
            raise ConfigurationError([Problem(f"it can't be read as JSON: {error}", str(path))]) from error
        return None
