"""What a real prefork worker tells: JSON lines on stderr, spans and metrics by OpenTelemetry's SDK, settings from TOML."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import psycopg
import pytest
from worker_process import wait_until

LOG_FIELDS = {"event_id", "event_name", "queue_name", "task_uuid", "correlation_id", "namespace", "message_id"}


@pytest.fixture(scope="module")
def run(module_shop, new_database, tmp_path_factory):
    """One worker's life with JSON lines and the SDK: what it was sent, printed and exported."""
    dsn = new_database()
    exports = tmp_path_factory.mktemp("exports") / "exports.jsonl"
    environment = {"TRACED_EXPORTS": str(exports), "OTEL_SERVICE_NAME": "tasker-worker"}
    worker = module_shop.start(app="traced", environment=environment, dsn=dsn, log_format="json")
    results = SimpleNamespace(
        paid=module_shop.send("pay", 1),
        declined=module_shop.send("pay", 2, decline=True),
        refused=module_shop.send("refused_by_postgres"),
        violating=module_shop.send("violates_schema"),
        broken=module_shop.send("broken_publisher"),
    )
    for result in vars(results).values():
        result.get(timeout=60, propagate=False)
    assert worker.stop() == 0
    exported = [json.loads(line) for line in exports.read_text().splitlines()]
    return SimpleNamespace(
        **vars(results),
        dsn=dsn,
        stderr=worker.log.splitlines(),
        spans=[item for item in exported if "kind" in item],
        metrics=[item for item in exported if "resource_metrics" in item],
    )


def ours(run):
    """The lines of this package, parsed as Loki's ``json`` stage does."""
    return [json.loads(line) for line in run.stderr if '"logger":"celery_tasker_events"' in line]


def test_a_line_filter_and_a_json_stage_find_what_was_published_for_one_correlation_id(run):
    found = [json.loads(line) for line in run.stderr if "Domain event published" in line]
    found = [line for line in found if line["correlation_id"] == run.paid.id]

    assert sorted(line["event_name"] for line in found) == [
        "payment.enriched",
        "payment.flagged",
        "payment.processed",
        "payment.tried",
    ]
    for line in found:
        assert line.keys() >= LOG_FIELDS | {"timestamp", "level", "process", "thread"}
        assert line["message"] == f"Domain event published: {line['event_name']}"
        assert line["queue_name"] == f"{line['namespace']}_domain_events"
        assert line["task_uuid"] == run.paid.id
        assert line["service_name"] == "tasker-worker"


def test_the_message_id_of_a_line_is_the_one_that_postgres_gave(run):
    with psycopg.connect(run.dsn) as connection:
        rows = connection.execute("select message->>'event_id', msg_id from pgmq.q_payments_domain_events").fetchall()

    lines = {
        line["event_id"]: line["message_id"]
        for line in ours(run)
        if line["message"].startswith("Domain event published") and line["namespace"] == "payments"
    }
    assert lines == dict(rows)


def test_failures_carry_the_same_fields_and_the_error(run):
    failed = {
        line["event_name"]: line
        for line in ours(run)
        if line["message"].startswith(("Postgres refused", "Domain event")) and line["level"] == "WARNING"
    }

    assert {name: line["error_type"] for name, line in failed.items()} == {
        "odd.text": "UntranslatableCharacter",
        "odd.schema": "SchemaViolation",
        "broken.publisher": "RuntimeError",
    }
    for line in failed.values():
        assert line.keys() >= LOG_FIELDS | {"error", "error_type"}
    assert failed["odd.text"]["correlation_id"] == run.refused.id


def test_celerys_own_lines_are_as_celery_writes_them(run):
    assert any(line.startswith("[") and " succeeded in " in line for line in run.stderr)
    assert any(line.startswith("[") and line.endswith(" ready.") for line in run.stderr)
    assert [line for line in run.stderr if line.startswith("[") and "omain event" in line] == []


def of_workflow(run, result):
    """The span of a step, and the spans of its events."""
    [step] = [s for s in run.spans if s["name"].startswith("run/") and s["attributes"].get("messaging.message.id") == result.id]
    return step, [s for s in run.spans if s["attributes"].get("correlation_id") == result.id]


def test_the_spans_of_events_belong_to_the_span_of_their_step(run):
    step, events = of_workflow(run, run.paid)

    assert Counter(span["name"] for span in events) == {
        f"publish payment.{what}": 1 for what in ("processed", "counted", "flagged", "enriched", "tried")
    }
    assert {span["context"]["trace_id"] for span in events} == {step["context"]["trace_id"]}
    assert {span["parent_id"] for span in events} == {step["context"]["span_id"]}
    assert {span["kind"] for span in events} == {"SpanKind.PRODUCER"}


def test_events_of_a_failure_belong_to_its_span_too(run):
    step, events = of_workflow(run, run.declined)

    assert {span["name"] for span in events} == {"publish payment.failed", "publish payment.troubled", "publish payment.tried"}
    assert {span["parent_id"] for span in events} == {step["context"]["span_id"]}


def test_the_header_of_a_message_names_the_span_that_published_it(run):
    with psycopg.connect(run.dsn) as connection:
        rows = connection.execute(
            "select msg_id, message->>'event_id', headers->>'traceparent' from pgmq.q_payments_domain_events"
        ).fetchall()

    spans = {span["attributes"]["event_id"]: span for span in run.spans if span["name"].startswith("publish ")}
    assert len(rows) >= 6
    for message_id, event_id, traceparent in rows:
        span = spans[event_id]
        assert traceparent.split("-")[1:3] == [
            span["context"]["trace_id"].removeprefix("0x"),
            span["context"]["span_id"].removeprefix("0x"),
        ]
        assert span["attributes"]["messaging.message.id"] == str(message_id)
        assert span["attributes"]["messaging.destination.name"] == "payments_domain_events"


def test_an_event_that_postgres_refuses_has_a_failed_span(run):
    [span] = [span for span in run.spans if span["name"] == "publish odd.text"]

    assert span["status"]["status_code"] == "ERROR"
    assert span["attributes"]["failed_stage"] == "postgres"


def test_the_children_export_what_they_counted(run):
    values = Counter()
    durations = Counter()
    for data in run.metrics:
        for scope in data["resource_metrics"][0]["scope_metrics"]:
            for metric in scope["metrics"]:
                for point in metric["data"]["data_points"]:
                    if metric["name"] == "tasker.domain_event.publish.duration":
                        durations[point["attributes"]["delivery_mode"]] += point["count"]
                    elif metric["name"].startswith("tasker.domain_events."):
                        values[metric["name"].removeprefix("tasker.domain_events."), point["attributes"].get("event_name")] += (
                            point["value"]
                        )

    assert values["published.total", "payment.processed"] == 1
    assert values["published.total", "payment.tried"] == 2
    assert values["dispatched.total", "payment.counted"] == 2, "two subscribers heard it"
    assert values["failed.total", "odd.schema"] == 1
    assert values["dead_lettered.total", "odd.text"] == 1
    assert durations == {"durable": 7, "fast": 1, "broadcast": 1}


def test_a_log_file_for_each_child_has_json_lines_too(shop, dsn, tmp_path):
    shop.start(f"--logfile={tmp_path}/worker-%i.log", dsn=dsn, log_format="json", wait_ready=False)
    paid = shop.send("pay", 1)
    assert paid.get(timeout=60)

    def published():
        lines = [line for file in tmp_path.glob("worker-*.log") for line in file.read_text().splitlines()]
        return [line for line in lines if "Domain event published: payment.processed" in line]

    [line] = wait_until(published, "the event is logged")
    assert json.loads(line)["correlation_id"] == paid.id


def test_a_worker_takes_its_settings_from_the_reference_systems_files_and_refuses_bad_ones(shop, tmp_path):
    base = tmp_path / "conf" / "base" / "worker.toml"
    base.parent.mkdir(parents=True)
    base.write_text("[worker.mpsc_channels.domain_events]\ncommand_buffer_size = 0\n")

    worker = shop.start(config_dir=str(tmp_path / "conf"), wait_ready=False)

    assert worker.process.wait(30) == 1
    key = "worker.mpsc_channels.domain_events.command_buffer_size"
    assert f"{base}: {key}: must be a whole number from 1 to 10000000, not 0" in worker.log
