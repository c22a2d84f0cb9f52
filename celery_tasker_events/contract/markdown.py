"""The declared events as a page in Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.contract.messages import EventMessage, messages_of
from celery_tasker_events.contract.payload_fields import payload_fields
from celery_tasker_events.envelope import Envelope

__all__ = ["markdown_page"]


def markdown_page(entries: Iterable[CatalogEntry], envelope: Envelope, title: str) -> str:
    """Return the page, the same for the same events, whatever their order.

    Args:
        envelope: In which the example messages are.
    """
    messages = messages_of(entries)
    lines = [f"# {_text(title)}", ""]
    if not messages:
        lines += ["No events are declared.", ""]
    else:
        lines += _table(
            ("event", "version", "namespace", "queue", "when"),
            [
                (
                    f"[{_text(message.event)}](#{message.key})",
                    _text(message.version),
                    message.namespace,
                    message.queue or "-",
                    message.when,
                )
                for message in messages
            ],
        )
    for message in messages:
        lines += _section(message, envelope)
    return "\n".join(lines)


def _section(message: EventMessage, envelope: Envelope) -> Iterator[str]:
    yield from (f'<a id="{message.key}"></a>', "", f"## {_text(message.event)} {_text(message.version)}", "")
    if message.description:
        yield from (_text(message.description), "")
    yield from _table(
        ("when", "mode", "step", "task", "template", "publisher"),
        [
            (
                entry.when,
                entry.delivery_mode,
                *map(_or_dash, (entry.step, entry.task, entry.template, entry.publisher)),
            )
            for entry in message.entries
        ],
    )
    if not message.schemas:
        yield from ("No schema is declared for its payload.", "")
    for schema in message.schemas:
        fields = payload_fields(schema)
        if fields:
            yield from _table(
                ("field", "type", "required", "rules", "description"),
                [
                    (_code(f.name), _text(f.type), "yes" if f.is_required else "no", _text(f.rules), _text(f.description))
                    for f in fields
                ],
            )
        yield from _details("JSON Schema of the payload", schema)
    for body, _ in message.examples(envelope):
        yield from _details("Example", body)


def _details(summary: str, value: object) -> Iterator[str]:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    yield from (f"{summary}:", "", f"{fence}json", text, fence, "")


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"| {' | '.join('---' for _ in headings)} |"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _or_dash(value: str | None) -> str:
    return _text(value) if value else "-"


def _code(text: str) -> str:
    # Within backticks nothing is escaped, save what would end a cell of a table.
    return _text(text) if "`" in text or "\n" in text else f"`{text}`".replace("|", "\\|")


def _text(text: str) -> str:
    """Escape what Markdown, or HTML in it, would take for more than text."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|])", r"\\\1", text).replace("\n", " ")
