"""``catalog`` as documents: AsyncAPI, Markdown and HTML, with an app or of templates alone."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery import Celery

from celery_tasker_events import DomainEvents, publishes_events

TEMPLATE = """\
name: checkout
namespace_name: payments
steps:
  - name: charge
    publishes_events:
      - name: payment.processed
        description: "Paid & <b>done</b> | *really*"
        schema:
          type: object
          required: [items]
          properties:
            items: {type: array, description: What was | bought, items: {$ref: "#/definitions/Item"}}
            note: {type: [string, "null"], maxLength: 5}
          definitions:
            Item: {type: object, properties: {price: {type: number, minimum: 0}, "</pre>": {enum: ["<script>"]}}}
      - {name: payment.seen, delivery_mode: fast}
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_template: Any) -> None:
    write_template(TEMPLATE)
    monkeypatch.chdir(tmp_path)


class Text(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_yaml_and_json_are_the_same_document(run_alone: Any) -> None:
    for name in ("a.json", "a.yaml"):
        assert run_alone("catalog", "--format", "asyncapi", "--output", name, "template.yaml").exit_code == 0

    document = json.loads(Path("a.json").read_text())
    assert yaml.safe_load(Path("a.yaml").read_text()) == document
    assert "&id" not in Path("a.yaml").read_text()
    assert run_alone("catalog", "--format", "asyncapi", "template.yaml").output == Path("a.json").read_text()


def test_the_document_has_the_apps_name_and_envelope(run_celery: Any, shop: tuple[Celery, DomainEvents]) -> None:
    app, _ = shop
    app.conf.tasker_events_envelope = "cloudevents"

    @app.task(name="shop.pay")
    @publishes_events("payment.processed")
    def pay() -> None: ...

    document = json.loads(run_celery(app, "catalog", "--format", "asyncapi").output)
    other = json.loads(
        run_celery(app, "catalog", "--format", "asyncapi", "--title", "T", "--api-version", "2", "--envelope", "native").output
    )

    assert (document["info"]["title"], document["defaultContentType"]) == ("shop domain events", "application/cloudevents+json")
    assert (other["info"]["title"], other["info"]["version"], other["defaultContentType"]) == ("T", "2", "application/json")


def test_the_html_page_shows_all_of_it_and_runs_nothing(run_alone: Any) -> None:
    page = Text(run_alone("catalog", "--format", "html", "template.yaml").output)

    assert "script" not in page.tags
    assert "b" not in page.tags
    for text in (
        "Paid & <b>done</b>",
        "items[].price",
        "array of object",
        "string or null",
        "maxLength 5",
        '"<script>"',
        "payment.seen",
    ):
        assert text in page.text


def test_the_markdown_page_shows_all_of_it(run_alone: Any) -> None:
    page = run_alone("catalog", "--format", "markdown", "template.yaml").output

    assert "Paid &amp; &lt;b&gt;done&lt;/b&gt; \\| \\*really\\*\n" in page
    assert "| `items` | array of object | yes |  | What was \\| bought |\n" in page
    assert "| `items[].price` | number | no | minimum 0 |  |\n" in page
    assert "| [payment.seen](#payments.payment.seen-1.0) | 1.0 | payments | - | success |\n" in page
    assert '<a id="payments.payment.seen-1.0"></a>' in page


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_an_empty_page_says_so(run_celery: Any, shop: tuple[Celery, DomainEvents], form: str) -> None:
    assert "No events are declared." in run_celery(shop[0], "catalog", "--format", form).output


def test_a_file_that_can_not_be_written_is_told(run_alone: Any) -> None:
    result = run_alone("catalog", "--output", "missing/catalog.txt", "template.yaml")

    assert result.exit_code == 1
    assert "missing/catalog.txt" in result.stderr


def test_the_app_counts_not_files(run_celery: Any, shop: tuple[Celery, DomainEvents]) -> None:
    result = run_celery(shop[0], "catalog", "template.yaml")

    assert result.exit_code == 2
    assert "with an app its own templates count" in result.stderr
