"""Pages: HTML from the templates; whatever a message holds is escaped, and shows no character that is not visible."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from celery_tasker_events.consumer import quantities
from celery_tasker_events.consumer.printable import pretty, printable, utc

__all__ = ["STATIC", "Pages"]

STATIC = Path(__file__).parent / "static"

_TEMPLATES = Path(__file__).parent / "templates"


class Pages:
    """Args: ``always``: what all templates are given."""

    def __init__(self, **always: Any) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_visible,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(always)
        self._environment.filters.update(
            utc=utc,
            json=_as_lines,
            age=quantities.duration,
            quantity=quantities.quantity,
            rate=quantities.rate,
            pairs=lambda names: [(name, name) for name in names],
        )

    def render(
        self, template: str, status: int = HTTPStatus.OK, *, headers: Mapping[str, str] | None = None, **values: Any
    ) -> HTMLResponse:
        """Return a page."""
        html = self._environment.get_template(template).render(**values)
        # Text of a message may hold what UTF-8 has no form for.
        return HTMLResponse(html.encode("utf-8", "backslashreplace"), status, headers)

    def problem(self, status: int, title: str, reason: str, *, inside: bool = True) -> HTMLResponse:
        """Return a page that says what went wrong.

        Args:
            inside: Whether the reader is one who may see the console.
        """
        return self.render("problem.html", status, title=title, reason=reason, inside=inside, current="")


def _visible(value: Any) -> Any:
    """What every expression of a template goes through; ``Markup`` is a template's own."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _as_lines(value: Any) -> Markup:
    """JSON data for a ``<pre>``: its own lines are kept."""
    return escape(pretty(value))
