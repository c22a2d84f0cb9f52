"""The queries of the page about Loki and Tempo find what they say in what a real worker printed and exported."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from pages import DOCS
from queries import log_query, trace_query
from queues import messages

SERVICE = "tasker-worker"
PAGE = (DOCS / "how-to" / "query-logs-and-traces.md").read_text()
LOG_QUERIES = re.findall(r"^```logql\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE)
TRACE_QUERIES = re.findall(r"^```traceql\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE)

#: The ids that stand in the page.
CORRELATION_ID = "0199c3e0-ccdb-7581-87ab-3f67daeaa4a5"
EVENT_ID = "01a21051-d0c5-74de-8a1d-f15b5077aec8"

PUBLISHED = ["payment.enriched", "payment.flagged", "payment.processed", "payment.tried"]


@pytest.fixture(scope="module")
def run(module_shop, new_database, tmp_path_factory):
    dsn = new_database()
    exports = tmp_path_factory.mktemp("exports") / "exports.jsonl"
    environment = {"TRACED_EXPORTS": str(exports), "OTEL_SERVICE_NAME": SERVICE}
    worker = module_shop.start(app="traced", environment=environment, dsn=dsn, log_format="json")
    paid, violating = module_shop.send("pay", 1), module_shop.send("violates_schema")
    other = module_shop.send("pay", 2)
    for result in (paid, violating, other):
        result.get(timeout=60)
    assert worker.stop() == 0
    exported = [json.loads(line) for line in exports.read_text().splitlines()]
    spans = [item for item in exported if "kind" in item]
    return SimpleNamespace(dsn=dsn, paid=paid, lines=worker.log.splitlines(), spans=spans)


def one(queries, *parts):
    """The query of the page that has these parts."""
    [query] = [query for query in queries if all(part in query for part in parts)]
    return query


def test_every_query_of_the_page_is_run():
    assert (len(LOG_QUERIES), len(TRACE_QUERIES)) == (4, 3)


def test_loki_finds_what_was_published_for_one_correlation_id(run):
    query = one(LOG_QUERIES, "correlation_id =").replace(CORRELATION_ID, run.paid.id)

    found = [json.loads(line) for line in log_query(query, SERVICE, run.lines)]

    assert sorted(line["event_name"] for line in found) == PUBLISHED
    assert {line["correlation_id"] for line in found} == {run.paid.id}


def test_loki_words_every_line_about_an_event(run):
    found = log_query(one(LOG_QUERIES, "service_name=~"), SERVICE, run.lines)

    assert sorted(line for line in found if line.endswith(run.paid.id)) == [
        *(f"{name} - payments - {run.paid.id}" for name in PUBLISHED[:3]),
        f"payment.tried - audit - {run.paid.id}",
    ]
    assert all(re.fullmatch(r"[a-z.]+ - (payments|audit) - [0-9a-f-]{36}", line) for line in found)


def test_loki_finds_what_went_wrong_and_why(run):
    [found] = log_query(one(LOG_QUERIES, "WARNING"), SERVICE, run.lines)

    assert found.startswith("odd.schema: SchemaViolation: ")


def test_loki_finds_an_event_by_its_id_in_the_queue(run):
    [line] = log_query(one(LOG_QUERIES, "message_id"), SERVICE, run.lines)

    first = messages(run.dsn, "payments")[0]
    assert json.loads(line)["event_id"] == first["event_id"]


def test_loki_finds_nothing_in_the_stream_of_another_service(run):
    assert [log_query(query, "another", run.lines) for query in LOG_QUERIES] == [[]] * len(LOG_QUERIES)


def test_tempo_finds_the_trace_of_a_correlation_id(run):
    query = one(TRACE_QUERIES, "span.correlation_id").replace(CORRELATION_ID, run.paid.id)

    found = trace_query(query, run.spans)

    assert sorted(span["name"] for span in found) == [
        *(f"publish {name}" for name in sorted([*PUBLISHED, "payment.counted"])),
        "run/shop.pay",
    ]
    assert len({span["context"]["trace_id"] for span in found}) == 1
    assert trace_query(query.replace(SERVICE, "another"), run.spans) == []


def test_tempo_finds_what_was_not_published(run):
    [span] = trace_query(one(TRACE_QUERIES, "status=error"), run.spans)

    assert span["name"] == "publish odd.schema"


def test_a_line_leads_to_its_trace(run):
    line = next(line for line in run.lines if "Domain event published: payment.processed" in line)
    event_id = json.loads(line)["event_id"]

    [span] = trace_query(one(TRACE_QUERIES, "span.event_id").replace(EVENT_ID, event_id), run.spans)

    assert span["name"] == "publish payment.processed"
