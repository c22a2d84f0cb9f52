"""How Sphinx builds the site: pages in Markdown, the names of Python from their docstrings, nothing from the network."""

import re
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

from celery_tasker_events.version import __version__

ROOT = Path(__file__).resolve().parents[1]

project = "celery-tasker-events"
author = "the authors of celery-tasker-events"
project_copyright = f"{author}, Apache-2.0"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = True
# The anchors that a forge makes, so that a link to a heading works there and here.
myst_heading_anchors = 4
highlight_language = "text"

html_theme = "furo"
html_theme_options = {"top_of_page_buttons": []}
html_copy_source = False
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]

napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
autodoc_preserve_defaults = True
maximum_signature_line_length = 90
nitpick_ignore_regex = [
    # Documented by others, whose inventories would be fetched over the network.
    ("py:.*", r"(celery|collections|datetime|logging|psycopg)\..*|Celery|Signature|Path|pathlib.Path"),
    # Type variables and aliases.
    ("py:class", r"(.*\.)?([HPST]|AsyncConnection|Backoff|ConnectionState|OnLag|OnSuccess|SyncConnection|Unmatched)"),
    # A default that is made anew each time keeps Sphinx from understanding the signature.
    ("py:class", r"Mapping\[str"),
    # Parts of the package that a public name has in its type, and that nobody needs to call.
    ("py:class", r"(.*\.)?(Catalog|DurationSeries|Durations|Envelope|Pattern|Settings|StreamBuffer)"),
]

#: Pages that stand for files of the repository outside of docs/: on a forge each is a line that leads to its file.
OUTSIDE = {
    "project/benchmarks": ROOT / "benchmarks" / "README.md",
    "project/changes": ROOT / "CHANGELOG.md",
    "project/contributing": ROOT / "CONTRIBUTING.md",
    "project/security": ROOT / "SECURITY.md",
}
LINK = re.compile(r"\]\((?![a-z]+:|[#/])([^)#\s]+)")


def take_from_outside(app: Sphinx, docname: str, source: list[str]) -> None:
    """Read such a page's file in its place, and let links between pages lead to pages."""
    folder = (OUTSIDE.get(docname) or ROOT / "docs" / docname).parent
    pages = {path: f"/{page}.md" for page, path in OUTSIDE.items()}

    def link(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        if target in pages:
            return f"]({pages[target]}"
        if docname not in OUTSIDE:
            return match[0]
        inside = target.is_relative_to(ROOT / "docs")
        return f"](/{target.relative_to(ROOT / 'docs')}" if inside else f"](../../{target.relative_to(ROOT)}"

    text = OUTSIDE[docname].read_text() if docname in OUTSIDE else source[0]
    source[0] = LINK.sub(link, text)


def setup(app: Sphinx) -> None:
    app.connect("source-read", take_from_outside)
    # A forge colours these; Pygments does not know them.
    for language in ("logql", "traceql"):
        app.add_lexer(language, TextLexer)
