"""Subscription patterns: ``*`` matches every event; else segments are compared one by one, and ``*`` is one segment."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["Pattern", "patterns_of"]

_PATTERN = re.compile(r"\*|([a-z0-9_]+|\*)(\.([a-z0-9_]+|\*))+")


class Pattern:
    """A checked pattern, such as ``payment.*``.

    Raises:
        ValueError: if it is no pattern.
    """

    __slots__ = ("_segments", "text")

    def __init__(self, text: object) -> None:
        if not isinstance(text, str) or not _PATTERN.fullmatch(text):
            raise ValueError(
                f"bad pattern {text!r}: '*' for every event, or segments of a-z, 0-9 and _ joined by dots, where "
                "'*' stands for one segment, such as 'payment.*'"
            )
        self.text = text
        self._segments: list[str] | None = None if text == "*" else text.split(".")

    def matches(self, event_name: str) -> bool:
        if self._segments is None:
            return True
        segments = event_name.split(".")
        return len(segments) == len(self._segments) and all(
            wanted in ("*", segment) for wanted, segment in zip(self._segments, segments, strict=True)
        )

    @property
    def regular_expression(self) -> str:
        """What finds the same names in Postgres, and in Python; for every event it is empty."""
        if self._segments is None:
            return ""
        return "^" + r"\.".join("[^.]*" if segment == "*" else segment for segment in self._segments) + "$"

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def patterns_of(given: object) -> tuple[Pattern, ...]:
    """Return the patterns that a user gave: one string, or several in a list, tuple or set.

    Raises:
        ValueError: if one is no pattern, or if there is none.
    """
    texts = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    patterns = {pattern.text: pattern for pattern in map(Pattern, texts)}
    if not patterns:
        raise ValueError("no pattern is given: '*' is for every event")
    return tuple(patterns.values())
