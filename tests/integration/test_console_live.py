"""The console's first page in a real browser: events as they come, its filters, and how it is paused."""

from __future__ import annotations

import json

import psycopg
import pytest
from console_process import ConsoleProcess
from selenium.webdriver.common.keys import Keys
from sending import event, send, send_raw, untouched
from worker_process import wait_until

from celery_tasker_events.event import StepError

DECLINED = StepError("CardDeclined", "no funds", retryable=False)
NAMES = "#events .what"


@pytest.fixture(scope="module")
def database(new_database):
    return new_database()


@pytest.fixture(scope="module")
def console(tmp_path_factory, database):
    send(database, event("warehouse.opened", namespace="warehouse"))
    process = ConsoleProcess(tmp_path_factory.mktemp("console"), "--dsn", database).start()
    yield process
    assert process.stop() == 143
    assert "Traceback" not in process.errors.read_text()


@pytest.fixture
def live(console, browser, database):
    """The console, open at its first page, with nothing in the queues."""
    with psycopg.connect(database, autocommit=True) as connection:
        for (queue,) in connection.execute("select queue_name from pgmq.list_queues()").fetchall():
            connection.execute(f"truncate pgmq.q_{queue}, pgmq.a_{queue}")
    browser.open(console.url)
    wait_until(lambda: browser.driver.current_url == f"{console.base}/", "the token is exchanged for a cookie")
    browser.wait_for("#state", "Live")
    yield browser
    assert browser.complaints() == []


def test_an_event_that_is_published_while_the_page_is_open_appears(live, database):
    assert live.texts(NAMES) == []
    assert live.one("#empty").is_displayed()

    send(database, event("payment.processed", {"amount": 9.5}, correlation_id="order-7"))

    live.wait_for(NAMES, "payment.processed")
    live.wait_for("#state", "Live, 1 new event")
    [row] = live.texts("#events tr")
    for text in ("01-01 10:00:00.000", "completed", "payments", "process_payment", "order-7", '{"amount": 9.5}'):
        assert text in row
    assert not live.one("#empty").is_displayed()


def test_the_newest_is_on_top_and_what_was_there_is_shown_once(live, database, console):
    send(database, event("a.first"))
    live.wait_for(NAMES, "a.first")
    live.open(console.base)
    live.wait_for("#state", "Live")

    send(database, event("a.second"))

    live.wait_for(NAMES, "a.second", "a.first")


def test_a_full_page_begins_with_the_last_events_and_gets_nothing_older_on_top(live, database, tmp_path):
    send(database, *(event(f"a.n{number}") for number in range(80)))
    send(database, *(event(f"b.n{number}", namespace="stock") for number in range(30)))
    # In one whose stream begins with this page.
    other = ConsoleProcess(tmp_path, "--dsn", database, "--no-token").start()
    try:
        live.open(other.base)
        live.wait_for("#state", "Live")
        send(database, event("c.last"))
        wait_until(lambda: "c.last" in live.texts(NAMES), "the newest is shown")

        before = [*(f"b.n{number}" for number in range(29, -1, -1)), *(f"a.n{number}" for number in range(79, 59, -1))]
        assert live.texts(NAMES) == ["c.last", *before]
        live.wait_for("#state", "Live, 1 new event")
    finally:
        live.open("about:blank")
        other.stop()


def test_a_namespace_that_is_new_is_followed_too(live, database):
    send(database, event("crm.updated", namespace="brand_new"))

    live.wait_for(NAMES, "crm.updated")


def test_what_an_archive_has_is_shown_without_touching_what_the_queue_has(live, database, console):
    send(database, event("a.archived"), archive=True)
    send(database, event("a.waiting"))
    before = untouched(database)

    live.open(console.base)

    live.wait_for(NAMES, "a.waiting", "a.archived")
    assert untouched(database) == before


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("namespace=stock", ["stock.reserved"]),
        ("event=payment.*", ["payment.failed", "payment.processed"]),
        ("event=payment.failed", ["payment.failed"]),
        ("outcome=completed", ["stock.reserved", "payment.processed"]),
        ("outcome=failed", ["payment.failed"]),
        ("correlation_id=order-2", ["payment.failed"]),
        ("namespace=payments&outcome=completed", ["payment.processed"]),
    ],
)
def test_each_filter_holds_for_what_is_there_and_for_what_comes(live, database, console, query, expected):
    def publish() -> None:
        send(
            database,
            event("payment.processed", correlation_id="order-1"),
            event("payment.failed", correlation_id="order-2", status="failed", error=DECLINED),
            event("stock.reserved", namespace="stock", correlation_id="order-1"),
        )

    publish()
    live.open(f"{console.base}/?{query}")
    live.wait_for(NAMES, *expected)
    live.wait_for("#state", "Live")

    publish()

    wait_until(lambda: len(live.texts(NAMES)) == 2 * len(expected), "what comes is shown")
    assert set(live.texts(NAMES)) == set(expected)


def test_a_filter_that_is_no_pattern_is_explained_at_its_field(live, console):
    live.open(f"{console.base}/?event=payment..x")

    assert live.one("#event").get_attribute("aria-invalid") == "true"
    assert live.one("#event-problem").text.startswith("bad pattern 'payment..x'")
    assert live.one("#event").get_attribute("aria-describedby") == "event-problem"
    assert live.one("#event").get_attribute("value") == "payment..x"


def test_a_paused_page_stays_as_it_is_and_shows_afterwards_what_came(live, database):
    live.one("#pause").click()
    assert live.one("#pause").get_attribute("aria-pressed") == "true"

    send(database, event("a.first"), event("a.second"))

    live.wait_for("#state", "Paused, 2 new events")
    assert live.texts(NAMES) == []
    live.one("#pause").click()
    live.wait_for(NAMES, "a.second", "a.first")


def test_the_keyboard_is_enough(live, database):
    send(database, event("payment.processed"), event("stock.reserved", namespace="stock"))
    wait_until(lambda: len(live.texts(NAMES)) == 2, "both are shown")
    live.run("document.activeElement.blur()")

    live.press(Keys.TAB)
    assert live.focused() == "Skip to the content"
    assert live.one(".skip").is_displayed()
    live.press(Keys.ENTER)
    assert live.focused() == "main"
    live.press(Keys.TAB, Keys.TAB)
    assert live.focused() == "event"
    width = live.run("return getComputedStyle(document.activeElement).outlineWidth")
    assert float(width.removesuffix("px")) >= 2
    live.press("payment.*", Keys.ENTER)

    live.wait_for(NAMES, "payment.processed")
    live.wait_for("#state", "Live")
    stations = []
    while live.focused() != "payment.processed" and len(stations) < 30:
        live.press(Keys.TAB)
        stations.append(live.focused())
    assert stations[-8:] == ["namespace", "event", "outcome", "correlation_id", "Filter", "Clear", "pause", "payment.processed"]
    live.press(Keys.ENTER)
    live.wait_for("h1", "payment.processed completed")


HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\'\u202e\x1b[31m'
METADATA = ("task_uuid", "step_uuid", "step_name", "namespace", "correlation_id", "fired_by", "idempotency_key")


def test_hostile_values_are_text_and_no_more(live, database, console):
    message = {
        "event_id": HOSTILE,
        "event_name": HOSTILE,
        "event_version": "1.0",
        "payload": {HOSTILE: HOSTILE},
        "execution_result": {
            "success": False,
            "status": HOSTILE,
            "error": {"type": HOSTILE, "message": HOSTILE, "retryable": False},
            "metadata": {},
        },
        "metadata": {**dict.fromkeys(METADATA, HOSTILE), "fired_at": "2026-01-01T10:00:00Z"},
    }
    send_raw(database, json.dumps(message))
    send_raw(database, json.dumps({"event_name": [HOSTILE], "type": HOSTILE}))
    send_raw(
        database, json.dumps({"failed_stage": HOSTILE, "event_name": HOSTILE, "error": HOSTILE}), "payments_domain_events_dlq"
    )
    escaped = HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")

    def is_harmless() -> None:
        assert live.run("return window.hacked") is None
        assert live.run("return document.querySelectorAll('main img, main script').length") == 0
        text = live.run("return document.documentElement.textContent")
        assert "\u202e" not in text
        assert "\x1b" not in text

    wait_until(lambda: len(live.texts(NAMES)) == 2, "both are streamed")
    assert escaped in live.texts(NAMES)
    is_harmless()
    links = [row.get_attribute("href") for row in live.all("#events a[href]")]
    assert len(links) == 3
    for url in (console.base, *links, f"{console.base}/dead-letters", f"{console.base}/dead-letter?namespace=payments&id=1"):
        live.open(url)
        assert live.texts("h1")[0]
        is_harmless()
        assert "window.hacked" in live.run("return document.body.textContent"), url
