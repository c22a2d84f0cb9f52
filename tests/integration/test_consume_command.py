"""``celery-tasker-events consume``: lines of JSON for a pipe, a program that answers, or a process for each event."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from consuming import event, rows, send
from program import PROGRAM
from psycopg.conninfo import conninfo_to_dict
from queues import messages
from worker_process import wait_until


def command(*arguments: str, dsn: str | None, **variables: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")} | variables
    if dsn is not None:
        environment["TASKER_EVENTS_DSN"] = dsn
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*PROGRAM, "consume", *arguments], env=environment, text=True, **pipes)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def consume(*arguments: str, dsn: str | None) -> tuple[int, str, str]:
    return finished(command(*arguments, dsn=dsn))


def script(tmp_path: Path, text: str) -> str:
    """A command that runs a Python program."""
    (tmp_path / "a program.py").write_text(text)
    return f"{sys.executable} '{tmp_path / 'a program.py'}'"


def test_each_event_becomes_a_line_of_json_and_is_deleted(dsn):
    send(dsn, [event(number, f"w{number % 2}") for number in range(20)])
    kept = messages(dsn, "payments")

    code, output, errors = consume("payments", "--until-empty", dsn=dsn)

    assert code == 0, errors
    lines = [json.loads(line) for line in output.splitlines()]
    assert sorted(lines, key=lambda line: line["payload"]) == kept
    assert messages(dsn, "payments") == []
    assert errors == "20 handled\n"


def test_only_wanted_events_are_handed_over_and_what_was_done_is_kept_if_asked(dsn):
    send(dsn, [event(1), event(2, name="payment.failed"), event(3, name="order.placed")])

    arguments = ["payments_domain_events", "--on", "payment.failed", "--on", "order.*", "--archive", "--once", "--format", "json"]
    code, output, errors = consume(*arguments, dsn=dsn)

    assert code == 0, errors
    assert [json.loads(line)["payload"] for line in output.splitlines()] == [2, 3]
    assert rows(dsn, "message->>'payload'", table="a") == ["1", "2", "3"]
    assert json.loads(errors)["unmatched"] == 1


def test_it_goes_on_until_it_is_stopped(dsn):
    send(dsn, [event(1)])
    process = command("payments", dsn=dsn)
    assert json.loads(process.stdout.readline())["payload"] == 1
    send(dsn, [event(2)])
    assert json.loads(process.stdout.readline())["payload"] == 2

    process.send_signal(signal.SIGINT)

    assert finished(process) == (0, "", "2 handled\n")


def test_a_reader_that_has_had_enough_costs_no_event(dsn):
    send(dsn, [event(number) for number in range(5)])
    process = command("payments", dsn=dsn)
    process.stdout.readline()
    process.stdout.close()
    process.wait(60)

    left = [message["payload"] for message in messages(dsn, "payments")]
    assert left
    assert left == list(range(5))[-len(left) :]
    assert process.returncode == 0
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


ANSWERING = """
import json, sys
for line in sys.stdin:
    event = json.loads(line)
    with open(sys.argv[1], "a") as seen:
        seen.write(f"{event['payload']}\\n")
        known = open(sys.argv[1]).read().count(f"{event['payload']}\\n") + 1
    answer = {2: "reject: no such customer", 3: "retry 0" if known == 1 else "ok", 4: "what?"}.get(event["payload"], "ok")
    print(answer, flush=True)
print("done", file=sys.stderr)
"""


def test_a_program_gets_a_line_for_each_event_and_its_answers_decide(dsn, tmp_path):
    send(dsn, [event(number, f"w{number}") for number in range(1, 6)])
    program = f"{script(tmp_path, ANSWERING)} {tmp_path / 'seen'}"

    code, output, errors = consume("payments", "--exec", program, "--until-empty", "--max-attempts", "1", dsn=dsn)

    assert code == 0, errors
    assert output == ""
    assert "done" in errors  # it was told that there is no more
    letters = {
        json.loads(letter["message_text"])["payload"]: letter["error"]["error"]
        for letter in messages(dsn, "payments", dead_letters=True)
    }
    assert letters == {
        2: "no such customer",
        3: "the program asked for a later attempt",
        4: "the program answered 'what?', not 'ok', 'error: <why>', 'reject: <why>' or 'retry <seconds>'",
    }
    assert messages(dsn, "payments") == []
    assert sorted((tmp_path / "seen").read_text().split()) == ["1", "2", "3", "4", "5"]


def test_a_program_that_ends_ends_the_command_and_its_event_comes_again(dsn, tmp_path):
    send(dsn, [event(1), event(2)])
    program = script(tmp_path, "import sys; sys.stdin.readline(); print('ok', flush=True); sys.stdin.readline(); sys.exit(3)")

    code, _, errors = consume("payments", "--exec", program, dsn=dsn)

    assert code == 1
    assert "ended with exit code 3 in answer to event" in errors
    assert [message["payload"] for message in messages(dsn, "payments")] == [2]
    assert rows(dsn, "vt <= clock_timestamp()") == [True]


def test_several_programs_work_beside_each_other(dsn, tmp_path):
    send(dsn, [event(number, f"w{number}") for number in range(2)])
    # Each answers only when the other one has got its event too.
    text = f"""
import os, sys, time
for line in sys.stdin:
    open(os.path.join({str(tmp_path)!r}, f"pid-{{os.getpid()}}"), "w").close()
    while len([name for name in os.listdir({str(tmp_path)!r}) if name.startswith("pid-")]) < 2:
        time.sleep(0.01)
    print("ok", flush=True)
"""

    code, _, errors = consume("payments", "--exec", script(tmp_path, text), "--concurrency", "2", "--once", dsn=dsn)

    assert (code, errors) == (0, "2 handled\n")


def test_a_process_for_each_event_tells_by_its_exit_code(dsn, tmp_path):
    send(dsn, [event(number, f"w{number}") for number in (0, 1, 65)])
    program = script(tmp_path, "import json, sys; event = json.load(sys.stdin); print('seen'); sys.exit(event['payload'])")

    code, output, errors = consume("payments", "--exec-each", program, "--until-empty", "--max-attempts", "1", dsn=dsn)

    assert code == 0, errors
    assert output == "seen\n" * 3
    letters = {
        json.loads(letter["message_text"])["payload"]: letter["error"]["error_type"]
        for letter in messages(dsn, "payments", dead_letters=True)
    }
    assert letters == {1: "ProgramFailed", 65: "Rejected"}


@pytest.mark.parametrize("how", ["memory", "postgres"])
def test_it_can_remember_what_it_has_handed_over(dsn, how):
    send(dsn, [event(1), event(1), event(2)])

    code, output, errors = consume("payments", "--once", "--remember", how, dsn=dsn)

    assert code == 0, errors
    assert len(output.splitlines()) == 2
    assert errors == "2 handled, 1 duplicates\n"


def test_libpq_s_own_variables_name_the_database_too(dsn):
    send(dsn, [event(1)])
    parts = conninfo_to_dict(dsn)
    variables = {"PGHOST": str(parts["host"]), "PGDATABASE": str(parts["dbname"]), "PGUSER": str(parts["user"])}

    code, output, errors = finished(command("payments", "--once", dsn=None, **variables))

    assert code == 0, errors
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "dsn", "code", "complaint"),
    [
        (["payments"], None, 2, "no database: give --dsn, or set TASKER_EVENTS_DSN"),
        ([], "dbname=x", 2, "Missing argument 'NAMESPACE...'"),
        (["payments"], "s3cret nonsense", 2, "is not a connection string"),
        (["Pay-ments"], "dbname=x", 2, "'Pay-ments' is no namespace"),
        (["payments_domain_events_dlq"], "dbname=x", 2, "holds dead letters"),
        (["payments", "--on", "payment"], "dbname=x", 2, "bad pattern 'payment'"),
        (["payments", "--exec", "a", "--exec-each", "b"], "dbname=x", 2, "can't be used together"),
        (["payments", "--exec", "no-such-program -x"], "dbname=x", 2, "there is no program 'no-such-program'"),
        (["payments", "--exec", "'"], "dbname=x", 2, "No closing quotation"),
        (["payments", "--once"], "host=127.0.0.1 port=1 user=x password=s3cret", 1, "password=*** host=127.0.0.1 port=1"),
    ],
)
def test_what_it_can_not_do_is_told_without_a_traceback_or_a_password(arguments, dsn, code, complaint):
    ended, output, errors = consume(*arguments, dsn=dsn)

    assert ended == code
    assert complaint in " ".join(errors.split())
    assert "Traceback" not in errors
    assert "s3cret" not in errors
    assert output == ""


def test_a_queue_that_is_not_there_is_an_error_until_empty(dsn):
    code, _, errors = consume("payments", "--until-empty", dsn=dsn)

    assert code == 1
    assert "there is no queue payments_domain_events" in errors


def test_what_real_workers_publish_is_consumed_while_it_comes(dsn, shop):
    process = command("payments", dsn=dsn)
    shop.start(dsn=dsn)
    paid = shop.send("pay", 1, fail_attempts=1)
    assert paid.get(timeout=60)["order"] == 1

    lines = [json.loads(process.stdout.readline()) for _ in range(5)]
    process.terminate()
    code, _, errors = finished(process)

    assert code == 0, errors
    assert [line["event_name"] for line in lines][:2] == ["payment.retried", "payment.troubled"]
    assert {line["event_name"] for line in lines[2:]} == {"payment.flagged", "payment.processed", "payment.enriched"}
    assert {line["metadata"]["task_uuid"] for line in lines} == {paid.id}
    wait_until(lambda: messages(dsn, "payments") == [], "all is settled")


def test_a_terminal_obeys_nothing_that_an_event_brings_into_the_log(dsn, tmp_path):
    send(dsn, [event(1, name="a.b\x1b[2J\r")])
    program = script(tmp_path, "import sys; sys.exit(65)")

    code, _, errors = consume("payments", "--once", "--exec-each", program, dsn=dsn)

    assert code == 0
    assert "Domain event a.b\\x1b[2J\\r becomes a dead letter" in errors
    assert all(character.isprintable() or character == "\n" for character in errors)
