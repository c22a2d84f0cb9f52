"""Evaluates the few parts of LogQL and TraceQL that the docs use, on log lines and spans as they were printed."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "=~": lambda value, pattern: re.fullmatch(pattern, value) is not None,
}
_COMPARISON = re.compile(r'\s*([\w.]+)\s*(=~|!=|=)\s*("(?:[^"\\]|\\.)*"|\w+)\s*')


def log_query(query: str, service_name: str, lines: Sequence[str]) -> list[str]:
    """The lines that a LogQL query finds in the stream of one service, or what it makes of them."""
    selector, *stages = _split(query)
    if not _all_hold(selector.strip("{} "), {"service_name": service_name}.get):
        return []
    found = []
    for line in lines:
        labels: dict[str, str] = {}
        told: str | None = line
        for stage in stages:
            told = _stage(stage, told, labels)
            if told is None:
                break
        if told is not None:
            found.append(told)
    return found


def _split(query: str) -> list[str]:
    # At each bar outside of a string, which stays with what follows it.
    parts, quoted = [""], False
    for before, sign in zip(" " + query, query, strict=False):
        quoted ^= sign == '"' and before != "\\"
        if sign == "|" and not quoted:
            parts.append("")
        parts[-1] += sign
    return [part.strip() for part in parts]


def _stage(stage: str, line: str, labels: dict[str, str]) -> str | None:
    if stage.startswith("|="):
        return line if json.loads(stage[2:]) in line else None
    text = stage.removeprefix("|").strip()
    if text == "json":
        labels.update(_labels(line))
        return line
    if text.startswith("line_format"):
        template = json.loads(text.removeprefix("line_format"))
        return re.sub(r"\{\{\s*\.(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), template)
    return line if _all_hold(text, labels.get) else None


def _labels(line: str) -> dict[str, str]:
    try:
        fields = json.loads(line)
    except ValueError:
        return {"__error__": "JSONParserErr"}
    scalars = {key: value for key, value in fields.items() if value is not None and not isinstance(value, dict | list)}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in scalars.items()}


def trace_query(query: str, spans: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The spans that a TraceQL query finds: of ``{…} && {…}`` those of traces that have spans of both kinds."""
    sets = [
        [span for span in spans if _all_hold(selector, lambda name, span=span: _attribute(span, name))]
        for selector in re.findall(r"\{([^}]*)\}", query)
    ]
    traces = set.intersection(*({span["context"]["trace_id"] for span in matching} for matching in sets))
    return [span for span in spans if span["context"]["trace_id"] in traces and any(span in matching for matching in sets)]


def _attribute(span: Mapping[str, Any], name: str) -> str | None:
    scope, _, attribute = name.partition(".")
    if scope == "resource":
        return span["resource"]["attributes"].get(attribute)
    if scope == "span":
        return span["attributes"].get(attribute)
    return {"name": span["name"], "status": span["status"]["status_code"].lower()}[name]


def _all_hold(conditions: str, value_of: Callable[[str], Any]) -> bool:
    position = 0
    while position < len(conditions):
        match = _COMPARISON.match(conditions, position)
        assert match, f"this is not understood: {conditions[position:]!r}"
        value = json.loads(match[3]) if match[3].startswith('"') else match[3]
        if not _COMPARISONS[match[2]](str(value_of(match[1]) or ""), value):
            return False
        position = match.end()
        if conditions.startswith(("&&", ","), position):
            position += 2 if conditions.startswith("&&", position) else 1
    return True
