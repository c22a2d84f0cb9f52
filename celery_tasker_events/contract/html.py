"""The declared events as one HTML page that needs nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from html import escape

from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.contract.messages import EventMessage, messages_of
from celery_tasker_events.contract.payload_fields import payload_fields
from celery_tasker_events.envelope import Envelope

__all__ = ["html_page"]

_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top }
th { background: #f2f2f2 }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto }
summary { cursor: pointer }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818 } a { color: #8bf } th { background: #2a2a2a } pre { background: #222 }
  th, td { border-color: #444 }
}
"""


def html_page(entries: Iterable[CatalogEntry], envelope: Envelope, title: str) -> str:
    """Return the page, the same for the same events, whatever their order.

    Args:
        envelope: In which the example messages are.
    """
    messages = messages_of(entries)
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_STYLE}</style></head>",
        "<body>",
        f"<h1>{escape(title)}</h1>",
        *(_overview(messages) if messages else ["<p>No events are declared.</p>"]),
    ]
    for message in messages:
        lines += _section(message, envelope)
    return "\n".join([*lines, "</body>", "</html>", ""])


def _overview(messages: Iterable[EventMessage]) -> Iterator[str]:
    rows = []
    for message in messages:
        link = f'<a href="#{message.key}">{escape(message.event)}</a>'
        rows.append([link, *map(escape, (message.version, message.namespace, message.queue or "-", message.when))])
    yield from _table(("event", "version", "namespace", "queue", "when"), rows)


def _section(message: EventMessage, envelope: Envelope) -> Iterator[str]:
    yield f'<h2 id="{message.key}">{escape(message.event)} {escape(message.version)}</h2>'
    if message.description:
        yield f"<p>{escape(message.description)}</p>"
    rows = [
        [escape(value or "-") for value in (e.when, e.delivery_mode, e.step, e.task, e.template, e.publisher)]
        for e in message.entries
    ]
    yield from _table(("when", "mode", "step", "task", "template", "publisher"), rows)
    if not message.schemas:
        yield "<p>No schema is declared for its payload.</p>"
    for schema in message.schemas:
        fields = [
            [f"<code>{escape(f.name)}</code>", *map(escape, (f.type, "yes" if f.is_required else "no", f.rules, f.description))]
            for f in payload_fields(schema)
        ]
        if fields:
            yield from _table(("field", "type", "required", "rules", "description"), fields)
        yield from _details("JSON Schema of the payload", schema)
    for body, _ in message.examples(envelope):
        yield from _details("Example", body)


def _details(summary: str, value: object) -> Iterator[str]:
    text = escape(json.dumps(value, indent=2, ensure_ascii=False))
    yield f"<details><summary>{summary}</summary><pre>{text}</pre></details>"


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield f"<table><tr>{''.join(f'<th>{heading}</th>' for heading in headings)}</tr>"
    yield from (f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    yield "</table>"
