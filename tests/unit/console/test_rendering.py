"""Whatever a template shows is escaped, and no invisible character comes through."""

from __future__ import annotations

import datetime

import pytest

from celery_tasker_events.console.pages import moment_of
from celery_tasker_events.console.rendering import Pages
from celery_tasker_events.console.rows import GIST_LENGTH, row_of
from celery_tasker_events.consumer.entry import Entry, Outline

AT = datetime.datetime(2026, 1, 1, 10, tzinfo=datetime.timezone.utc)
PAGES = Pages(database="<b>db</b>", allow_actions=False, has_catalog=False, current="")


def entry(**fields: object) -> Entry:
    return Entry("payments_domain_events", 7, AT, None, 0, AT, {}, {}, Outline(**fields))


def text_of(reason: str) -> str:
    return bytes(PAGES.problem(400, "Title", reason).body).decode()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("<script>", "&lt;script&gt;"),
        ('" onload="x', "&#34; onload=&#34;x"),
        ("\x1b[31m\r\n", "\\x1b[31m\\r\\n"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\ud800"),
        ("Grüße, 世界", "Grüße, 世界"),
    ],
)
def test_a_text_is_shown_and_nothing_else(given, shown):
    assert f"<p>{shown}</p>" in text_of(given)


def test_what_stands_on_each_page_is_escaped_too():
    assert "&lt;b&gt;db&lt;/b&gt;" in text_of("")


def test_a_long_payload_is_cut_and_one_without_utf8_can_be_linked():
    row = row_of(entry(payload="x" * 1000, correlation_id="\ud800&id=2"))

    assert len(row["gist"]) == GIST_LENGTH
    assert row["gist"].endswith("…")
    assert row["workflow_url"].startswith("/workflow?id=%3F%26id%3D2&")


def test_an_event_without_a_correlation_id_leads_to_no_workflow():
    assert row_of(entry())["workflow_url"] == ""


def test_an_error_says_more_than_a_payload():
    assert row_of(entry(error_type="CardDeclined", error="no\nfunds", payload=1))["gist"] == "CardDeclined: no\\nfunds"


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("", None),
        ("2026-01-01T10:00:00Z", AT),
        ("2026-01-01T10:00", AT),
        ("2026-01-01t12:00:00+02:00", AT),
    ],
)
def test_a_moment_of_a_query_is_utc_unless_it_says_otherwise(given, moment):
    assert moment_of(given) == (moment, None)


def test_a_moment_may_be_some_time_ago():
    moment, problem = moment_of("1h")

    assert problem is None
    assert moment is not None
    assert abs((datetime.datetime.now(datetime.timezone.utc) - moment).total_seconds() - 3600) < 600


@pytest.mark.parametrize("given", ["yesterday", "2026-13-01", "0001-01-01T00:00:00+14:00", "1y"])
def test_what_is_no_moment_is_told(given):
    moment, problem = moment_of(given)

    assert moment is None
    assert problem is not None
    assert "is no time" in problem
