"""The console's other pages in a real browser: a workflow's timeline, the charts, the catalog, and how all of them look.

With ``TEST_SCREENSHOTS=docs/images`` in the environment it writes the pictures of the documentation.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from browser import DESKTOP, LOW_CONTRAST, PHONE
from console_process import ConsoleProcess
from letters import park
from sending import event, send
from worker_process import wait_until

from celery_tasker_events.event import StepError

APPS = Path(__file__).parent / "apps"

REFUSED = StepError("SMTPError", "550 refused", retryable=True)
DECLINED = StepError("CardDeclined", "no funds", retryable=False)

#: One workflow over three namespaces.
STORY = (
    event("stock.reserved", {"items": 2}, namespace="stock", step_name="reserve", after_ms=102, took_ms=102),
    event("payment.processed", {"total": 9999}, step_name="process_payment", after_ms=390, took_ms=284),
    event(
        *("mail.failed", None),
        namespace="mails",
        step_name="send_receipt",
        status="failed",
        error=REFUSED,
        after_ms=871,
        took_ms=765,
    ),
    event("stock.closed", {"items": 2}, namespace="stock", step_name="close", after_ms=905, took_ms=31),
)

PAGES = {
    "live": "/",
    "workflow": "/workflow?id=order-1",
    "queues": "/queues",
    "dead letters": "/dead-letters",
    "dead letter": "/dead-letter?namespace=payments&id=1",
    "retry": "/dead-letters/retry?letter=payments:1",
    "replay": "/replay?preview=1",
    "message": "/message?queue=payments_domain_events&id=1",
    "catalog": "/catalog",
    "nowhere": "/nowhere",
}


@pytest.fixture(scope="module")
def console(tmp_path_factory, new_database):
    dsn = new_database()
    send(dsn, *STORY)
    others = [event("payment.processed", {"total": 100 * n}, correlation_id=f"order-{n}", after_ms=1000 * n) for n in range(2, 7)]
    send(dsn, *others, archive=True)
    send(dsn, event("payment.failed", correlation_id="order-7", status="failed", error=DECLINED, after_ms=8000))
    park(dsn, event("payment.processed", {"total": -1}, correlation_id="order-1", after_ms=950), "check constraint no_debts")
    settings = json.dumps({"tasker_events_dsn": dsn})
    folder = tmp_path_factory.mktemp("console")
    arguments = ("--allow-actions", "--interval", "0.1")
    process = ConsoleProcess(folder, *arguments, app="console_shop", cwd=APPS, environment={"SHOP_SETTINGS": settings}).start()
    process.dsn = dsn
    yield process
    assert process.stop() == 143
    assert "Traceback" not in process.errors.read_text()


@pytest.fixture
def signed_in(console, browser):
    browser.open(console.url)
    wait_until(lambda: browser.driver.current_url == f"{console.base}/", "the token is exchanged for a cookie")
    return browser


def test_a_workflow_is_a_timeline_over_all_namespaces(signed_in, console):
    signed_in.open(f"{console.base}/?correlation_id=order-1")
    signed_in.one("#events .workflow a").click()
    signed_in.wait_for("h1", "Workflow")

    # What was parked among the dead letters belongs to the story.
    assert signed_in.texts(".timeline .label a") == [
        *("stock.reserved", "payment.processed", "mail.failed", "stock.closed", "payment.processed"),
    ]
    assert signed_in.texts(".timeline .label .step")[:4] == ["reserve", "process_payment", "send_receipt", "close"]
    assert signed_in.texts(".timeline .end")[2:] == ["failed", "completed", "dead letter"]
    assert "SMTPError: 550 refused" in signed_in.texts(".timeline .why")
    assert dict(item.split("\n") for item in signed_in.texts(".summary > div"))["Failures"] == "2"
    bars = [bar.rect for bar in signed_in.all(".timeline .bar")]
    lefts, widths = [bar["x"] for bar in bars], [bar["width"] for bar in bars]
    # The receipt was the longest, the last step began last.
    assert max(widths[:4]) == widths[2]
    assert lefts.index(max(lefts[:4])) == 3
    signed_in.all(".timeline .label a")[1].click()
    signed_in.wait_for("h1", "payment.processed completed")


def test_a_workflow_that_nobody_knows_is_said_to_be_unknown(signed_in, console):
    signed_in.open(f"{console.base}/workflow?id=order-99&since=1h")

    assert signed_in.one(".empty").text.startswith("No event of this workflow since then.")
    assert signed_in.one(".empty a").get_attribute("href") == f"{console.base}/workflow?id=order-99"


def test_the_queues_are_charts_that_go_on_by_themselves(signed_in, console):
    signed_in.open(f"{console.base}/queues?namespace=stock")
    wait_until(lambda: signed_in.texts("#state") == ["Live"], "the charts are new ones")
    depth = "figure.depth strong"
    before = int(signed_in.texts(depth)[0])

    send(console.dsn, *(event("stock.counted", namespace="stock", step_name="count") for _ in range(3)))

    signed_in.wait_for(depth, str(before + 3))
    assert signed_in.texts("h2") == ["stock"]
    assert signed_in.texts("figcaption span") == ["Queue depth", "Age of the oldest", "Publish rate", "Dead letters"]
    described = signed_in.run("return Array.from(document.querySelectorAll('svg[role=img] desc'), (desc) => desc.textContent)")
    assert described[0].startswith("Queue depth over ")
    assert f"highest {before + 3}." in described[0]
    assert len(signed_in.one("figure.depth polyline").get_attribute("points").split()) > 2


def test_each_chart_is_a_table_too(signed_in, console):
    signed_in.open(f"{console.base}/queues?namespace=payments")
    wait_until(lambda: signed_in.texts("#state") == ["Live"], "the charts are new ones")
    signed_in.one("summary").click()

    assert signed_in.texts(".numbers thead th") == ["Time", "Queue depth", "Age of the oldest", "Publish rate", "Dead letters"]
    assert signed_in.texts(".numbers tbody tr:first-child td")[-1] == "1"


def test_the_catalog_says_what_each_event_means_and_looks_like(signed_in, console):
    signed_in.open(f"{console.base}/catalog")

    assert signed_in.texts("h2") == ["payment.failed 1.0", "payment.processed 2.0"]
    [_, paid] = signed_in.texts(".declared")
    for text in ("An order is <b>paid</b>.", "success", "broadcast", "shop.pay", "total", "integer", "minimum 0", "In cents"):
        assert text in paid
    signed_in.all("summary")[-1].click()
    assert '"required": [' in signed_in.all(".declared pre")[-1].text


def test_a_message_is_shown_with_all_that_is_known_of_it(signed_in, console):
    signed_in.open(f"{console.base}/message?queue=payments_domain_events&id=1")

    facts = dict(fact.split("\n", 1) for fact in signed_in.texts(".facts > div"))
    assert (facts["Step"], facts["Duration"], facts["Correlation id"]) == ("process_payment", "284 ms", "order-1")
    assert '"total": 9999' in signed_in.texts("pre")[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_can_be_read_in_light_and_dark_and_on_a_phone(signed_in, console, size, scheme):
    signed_in.look(size, scheme)
    grounds = set()
    for name, path in PAGES.items():
        signed_in.open(f"{console.base}{path}")
        seen, low = signed_in.run(LOW_CONTRAST)
        assert seen > 8, name
        assert low == [], name
        assert signed_in.run("return document.documentElement.scrollWidth <= innerWidth"), name
        grounds.add(signed_in.run("return getComputedStyle(document.body).backgroundColor"))
        # Nothing of another origin, a heading, a main part, and a name for each thing that can be used.
        assert signed_in.run("return performance.getEntriesByType('resource').every((it) => it.name.startsWith(location.origin))")
        assert len(signed_in.all("h1")) == len(signed_in.all("main")) == 1, name
        assert signed_in.run(NAMELESS) == [], name
        assert signed_in.run(CUT) == [], name
    assert grounds == {"rgb(14, 18, 23)"} if scheme == "dark" else {"rgb(245, 246, 249)"}
    expected = [message for message in signed_in.complaints() if "/nowhere" not in message]
    assert expected == []


# What of a list must be whole on every screen.
CUT = """
return Array.from(document.querySelectorAll(".what, .outcome, .when, .badge, h1, h2, figcaption"))
  .filter((it) => it.scrollWidth > it.clientWidth + 1 && getComputedStyle(it).display != "inline").map((it) => it.outerHTML)
"""

# Controls without a label.
NAMELESS = """
return Array.from(document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary"), (it) =>
  (it.labels && it.labels.length) || it.ariaLabel || it.textContent.trim() ? "" : it.outerHTML).filter(Boolean)
"""


@pytest.mark.skipif("TEST_SCREENSHOTS" not in os.environ, reason="TEST_SCREENSHOTS names no folder for pictures")
def test_pictures_for_the_documentation(signed_in, console):
    folder = Path(os.environ["TEST_SCREENSHOTS"])
    signed_in.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    for at in range(40):
        counted = [event("stock.counted", {"bin": n}, namespace="stock", correlation_id=f"count-{at}") for n in range(at % 7)]
        send(console.dsn, *counted)
    # A workflow of its own beside what other tests have sent.
    renamed = [dataclasses.replace(each.metadata, correlation_id="order-1042") for each in STORY]
    send(console.dsn, *(dataclasses.replace(each, metadata=metadata) for each, metadata in zip(STORY, renamed, strict=True)))
    for name, page, size, scheme in (
        ("live", "/", (1200, 700), "light"),
        ("workflow", "/workflow?id=order-1042", (1200, 790), "light"),
        ("queues", "/queues?namespace=stock", (1200, 460), "dark"),
    ):
        signed_in.look(size, scheme)
        signed_in.open(f"{console.base}{page}")
        if name != "workflow":
            signed_in.wait_for("#state", "Live")
        signed_in.driver.save_screenshot(str(folder / f"console-{name}.png"))
    signed_in.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": False})
