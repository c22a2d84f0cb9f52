"""Forwarding to webhooks, to another Celery app's worker and to stdout, by both programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

from consuming import event, rows, send
from forwarding import finished, firsts
from kombu import Connection
from program import PROGRAM
from queues import messages
from services import RABBITMQ, url_of
from worker_process import WorkerProcess, wait_until

from celery_tasker_events.consumer.targets.celery_target import task_id_of
from celery_tasker_events.consumer.targets.http_target import signature

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="
APPS = Path(__file__).parent / "apps"


def forward(dsn: str, *arguments: str, program: list[str] = PROGRAM, **variables: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    environment |= {"TASKER_EVENTS_DSN": dsn, **variables}
    pipe = subprocess.PIPE
    command = [*program, "forward", "payments", *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe)


def test_a_webhook_gets_every_event_once_signed_and_in_order_though_it_fails_at_times(dsn, receiver):
    receiver.answers = {0: [503, 429], 2: [500], 4: [502], 5: [408]}
    send(dsn, [event(number, f"w{number % 2}") for number in range(10)])

    code, _, errors = finished(
        forward(dsn, "--to", receiver.url, "--secret-env", "HOOK_SECRET", "--concurrency", "3", "--once", HOOK_SECRET=SECRET)
    )

    assert code == 0, errors
    assert firsts(receiver.taken) == {"w0": [0, 2, 4, 6, 8], "w1": [1, 3, 5, 7, 9]}
    assert len(receiver.taken) == 10
    assert messages(dsn, "payments") == []
    for headers, body, _ in receiver.requests:
        signed = signature(SECRET, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
        assert headers["webhook-signature"] == signed
        assert headers["webhook-id"] == json.loads(body)["event_id"]


def test_what_a_webhook_refuses_is_a_dead_letter(dsn, receiver):
    receiver.answers = {1: [422]}
    send(dsn, [event(1), event(2)])

    code, _, errors = finished(forward(dsn, "--to", receiver.url, "--once"))

    assert code == 0, errors
    assert [each["payload"] for each in receiver.taken] == [2]
    (letter,) = messages(dsn, "payments", dead_letters=True)
    assert letter["failed_stage"] == "target"
    assert "has answered 422" in letter["error"]["error"]
    assert "/hook" not in errors


def test_an_outage_of_a_webhook_uses_up_no_attempt(dsn, receiver):
    receiver.answers = {1: [503] * 4}
    send(dsn, [event(1)])

    code, _, errors = finished(forward(dsn, "--to", receiver.url, "--once", "--max-attempts", "1"))

    assert code == 0, errors
    assert len(receiver.requests) == 5
    assert len(receiver.taken) == 1
    assert errors.count("Forwarding waits for") == 1


def test_refusals_use_up_attempts_if_they_are_limited(dsn, receiver):
    receiver.answers = {1: [500, 500]}
    send(dsn, [event(1), event(2)])

    assert finished(forward(dsn, "--to", receiver.url, "--once", "--max-attempts", "2"))[0] == 0

    assert [each["payload"] for each in receiver.taken] == [2]
    assert len(messages(dsn, "payments", dead_letters=True)) == 1


def test_events_start_tasks_in_another_app(dsn, tmp_path):
    broker, queue, output = url_of(RABBITMQ), f"crm_{uuid.uuid4().hex}", tmp_path / "booked"
    environment = {"CRM_BROKER": broker, "CRM_QUEUE": queue, "CRM_OUTPUT": str(output)}
    sent = [event(number, f"w{number}") for number in range(5)]
    send(dsn, sent)
    worker = WorkerProcess("crm", APPS, tmp_path / "crm.log", environment, pool="solo").start()
    try:
        process = forward(
            dsn, "--to", "celery://crm.book", "--broker-env", "CRM_BROKER", "--queue", queue, "--once", **environment
        )
        code, _, errors = finished(process)
        assert code == 0, errors
        wait_until(lambda: output.exists() and len(output.read_text().splitlines()) == 5, "the tasks have run")
    finally:
        worker.kill()
        with Connection(broker) as connection:
            connection.channel().queue_delete(queue)

    assert messages(dsn, "payments") == []
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert {line["event"]["event_id"]: line["task_id"] for line in lines} == {
        each.event_id: task_id_of("crm.book", each.event_id) for each in sent
    }
    assert sorted(line["correlation"] for line in lines) == [f"w{number}" for number in range(5)]


def test_stdout_gets_lines_and_stderr_the_counts(dsn):
    send(dsn, [event(number) for number in range(5)])

    code, output, errors = finished(forward(dsn, "--to", "stdout:", "--once", "--format", "json"))

    assert code == 0
    assert [json.loads(line)["payload"] for line in output.splitlines()] == list(range(5))
    assert json.loads(errors)["forwarded"] == 5


def test_a_reader_that_has_had_enough_costs_no_event(dsn):
    send(dsn, [event(number, f"w{number}") for number in range(3)])
    process = forward(dsn, "--to", "stdout:", "--once")
    assert process.stdout is not None
    process.stdout.close()

    assert process.wait(60) == 0
    assert process.stderr is not None
    process.stderr.close()
    assert len(messages(dsn, "payments")) == 3


def test_a_choice_of_events_is_forwarded_and_the_others_archived(dsn):
    send(dsn, [event(1), event(2, name="payment.failed"), event(3)])

    arguments = ["--to", "stdout:", "--once", "--event", "payment.failed"]
    assert finished(forward(dsn, *arguments))[0] == 2
    code, output, errors = finished(forward(dsn, *arguments, "--others", "archive"))

    assert code == 0, errors
    assert [json.loads(line)["payload"] for line in output.splitlines()] == [2]
    assert [message["payload"] for message in rows(dsn, "message", table="a")] == [1, 3]


def test_it_is_a_command_of_an_app_too(dsn):
    send(dsn, [event(1)])
    program = [sys.executable, "-m", "celery", "--workdir", str(APPS), "-A", "crm", "domain-events"]

    process = forward(dsn, "--dsn", dsn, "--to", "stdout:", "--once", program=program, CRM_BROKER="memory://", CRM_QUEUE="q")
    code, output, errors = finished(process)

    assert code == 0, errors
    assert json.loads(output)["payload"] == 1


def test_a_target_that_is_not_there_ends_a_run_that_should_end(dsn):
    send(dsn, [event(1)])

    code, _, errors = finished(forward(dsn, "--to", "amqp://guest:hunter2@127.0.0.1:1//", "--once"))

    assert code == 1
    assert "127.0.0.1:1" in errors
    assert "hunter2" not in errors
    assert len(messages(dsn, "payments")) == 1
