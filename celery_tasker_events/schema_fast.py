"""A quick yes for valid payloads, by jsonschema-rs where it is installed (``celery-tasker-events[fast]``).

It says yes or nothing: where it does not say yes, jsonschema decides and words the violation. So what is refused, and why, is
the same with and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

__all__ = ["quick_yes"]

#: What the two understand differently: the dialect of patterns, and how exactly fractions are divided.
_NOT_ALIKE = frozenset({"pattern", "patternProperties", "multipleOf"})

#: By the name of jsonschema's class; drafts that jsonschema-rs does not know are left to jsonschema.
_DRAFTS = frozenset({"Draft4Validator", "Draft6Validator", "Draft7Validator", "Draft201909Validator", "Draft202012Validator"})


def quick_yes(draft: str, schema: Mapping[str, Any], keywords: Collection[str]) -> Callable[[Any], bool] | None:
    """Return a function that is True of valid payloads, and False where jsonschema must look; None where there is none.

    Args:
        draft: Name of jsonschema's validator class.
        keywords: All keys in the schema, wherever they stand.
    """
    if draft not in _DRAFTS or not _NOT_ALIKE.isdisjoint(keywords):
        return None
    try:
        import jsonschema_rs
    except ImportError:
        return None
    try:
        # Like jsonschema without a format checker: "format" is a remark, not a rule.
        validator = getattr(jsonschema_rs, draft)(dict(schema), validate_formats=False)
    except ValueError:  # it finds fault with a schema that jsonschema takes
        return None
    is_valid: Callable[[Any], bool] = validator.is_valid
    return is_valid
