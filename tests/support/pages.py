"""The code blocks of a documentation page that begin with a file's name, to be run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> dict[str, str]:
    """Blocks by the name in their first line, which is a comment."""
    text = (DOCS / page).read_text()
    found = re.findall(r"^```(?:python|sql|sh)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return {match[1]: block for block in found if (match := re.match(r"(?:#|--) (\S+)\n", block))}
