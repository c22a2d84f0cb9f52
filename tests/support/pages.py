"""The code blocks of a documentation page, to be run as they stand there."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def extras() -> set[str]:
    """The extras that may be named in square brackets when this package is installed."""
    setup = configparser.ConfigParser()
    setup.read(DOCS.parent / "setup.cfg")
    return set(setup["options.extras_require"])


def fences(text: str) -> list[tuple[str, str]]:
    """All blocks that have a language, with it, in their order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def name_of(block: str) -> str | None:
    """The file name in a block's first line, which is a comment; None if it has none."""
    match = re.match(r"(?:#|--) (\S+\.\w+)\n", block)
    return match and match[1]


def blocks(page: str) -> dict[str, str]:
    """Blocks by the file name in their first line."""
    found = [block for language, block in fences((DOCS / page).read_text()) if language in ("python", "sql", "sh")]
    return {name: block for block in found if (name := name_of(block))}
