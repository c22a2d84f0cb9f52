"""``dlq list|show|purge`` on a real Postgres: looking takes nothing, and purging deletes what was asked for."""

from __future__ import annotations

import json
import subprocess
from itertools import islice
from typing import Any

import click.testing
import psycopg
import pytest
from paying_shop import letters, listed, run_alone
from program import PROGRAM
from psycopg.sql import SQL, Identifier
from queues import messages

from celery_tasker_events.cli.main import main
from celery_tasker_events.durable import dead_letter_sql
from celery_tasker_events.durable.dead_letters import PAGE, DeadLetters
from celery_tasker_events.durable.pool import connect

# List and show


def test_a_list_has_a_line_for_each_letter_with_its_reason(dsn, open_shop):
    shop = open_shop()
    shop.pay({"total": 1}, 1j)
    shop.events.publish("order.noted", "\0", namespace="orders")
    assert shop.events.drain(60)

    lines = shop.run("list").output.splitlines()

    assert [line.split()[0:2] for line in lines] == [
        ["NAMESPACE", "MSG_ID"],
        ["orders", "1"],
        ["payments", "1"],
        ["payments", "2"],
    ]
    assert "postgres  as it is    UntranslatableCharacter: " in lines[1]
    assert "schema    by the app  SchemaViolation: payload: 'amount' is a required property" in lines[2]
    assert "snapshot  no          NotSerialisable: complex value has no JSON form" in lines[3]
    assert run_alone(dsn, "list").output == shop.run("list").output


def test_a_list_is_limited_filtered_and_goes_on_where_it_ended(dsn, open_shop):
    shop = open_shop()
    shop.pay(*[{"total": number} for number in range(5)])
    shop.events.publish("order.noted", "\0", namespace="payments")
    assert shop.events.drain(60)

    def ids(*arguments: str) -> list[int]:
        return [letter["message_id"] for letter in listed(run_alone(dsn, "list", "--format", "json", *arguments))]

    assert ids("--limit", "2") == [1, 2]
    assert "--namespace payments --after 2" in run_alone(dsn, "list", "--limit", "2").stderr
    assert ids("--namespace", "payments", "--after", "2") == [3, 4, 5, 6]
    assert ids("--event", "order.*") == [6]
    assert ids("--event", "*.processed") == [1, 2, 3, 4, 5]
    assert ids("--event", "*") == [1, 2, 3, 4, 5, 6]
    assert ids("--event", "payment.processed.twice") == []


def test_looking_takes_nothing_and_hides_nothing(dsn, open_shop):
    shop = open_shop()
    shop.pay({"total": 1})

    def state() -> Any:
        with psycopg.connect(dsn) as connection:
            return connection.execute("select msg_id, read_ct, vt, message from pgmq.q_payments_domain_events_dlq").fetchall()

    before = state()
    for arguments in (["list"], ["show", "1"], ["retry", "1", "--dry-run"]):
        assert shop.run(*arguments).exit_code == 0
    assert state() == before


def test_show_tells_all_that_is_kept(dsn, open_shop):
    shop = open_shop()
    shop.pay({"total": 1})

    text = shop.run("show", "1").output
    as_json = json.loads(shop.run("show", "1", "--format", "json").output)

    assert "error           SchemaViolation: payload: 'amount' is a required property" in text
    assert 'payload:\n{\n  "total": 1\n}' in text
    assert "retry           by the app" in text
    assert as_json["letter"] == letters(dsn)[0]


def test_a_letter_that_somebody_else_put_there_is_shown_and_stays(dsn):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pgmq.create('odd_domain_events_dlq')")
        for body in ('"text"', "[1]", "{}", '{"event_name": 1, "error": 2, "kept": "message"}'):
            connection.execute("select pgmq.send('odd_domain_events_dlq', %s::jsonb)", [body])

    assert len(listed(run_alone(dsn, "list", "--format", "json"))) == 4
    assert all(run_alone(dsn, "show", str(number)).exit_code == 0 for number in range(1, 5))
    retried = run_alone(dsn, "retry", "--all")
    assert retried.exit_code == 1
    assert retried.output.endswith("0 published, 4 left\n")
    assert len(messages(dsn, "odd", dead_letters=True)) == 4


def test_a_terminal_obeys_nothing_that_stands_in_a_letter(dsn):
    evil = "\x1b]0;owned\x07\x1b[2J\r\u202e\x9b"
    letter = {
        "event_name": f"a.b{evil}",
        "event_id": evil,
        "failed_stage": evil,
        "correlation_id": evil,
        "declaration": {"publisher": evil},
        "error": {"error_type": evil, "error": f"first{evil}\nsecond{evil}"},
        "kept": "message",
        "message_text": evil,
        "payload_text": json.dumps({"text": evil}),
    }
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pgmq.create('odd_domain_events_dlq')")
        connection.execute("select pgmq.send('odd_domain_events_dlq', %s::jsonb)", [json.dumps(letter)])

    shown = [run_alone(dsn, *arguments).output for arguments in (["list"], ["show", "1"], ["retry", "1"])]

    for text in shown:
        assert "\\x1b" in text
        assert all(character.isprintable() or character == "\n" for character in text)
    assert "second\\x1b" in shown[1]


def test_of_many_letters_a_list_reads_no_more_than_it_shows(dsn):
    with connect(dsn) as connection:
        connection.execute("select pgmq.create('many_domain_events_dlq')")
        connection.execute(
            "insert into pgmq.q_many_domain_events_dlq (vt, message) "
            "select now(), jsonb_build_object('event_name', 'a.b', 'n', n) from generate_series(1, 50000) n"
        )
        connection.execute("analyze pgmq.q_many_domain_events_dlq")
        page = dead_letter_sql.OUTLINES.format(table=Identifier("pgmq", "q_many_domain_events_dlq"))
        parameters = {"after": 40_000, "limit": 21, "event": "^a", "older_than": None}
        (explained,) = connection.execute(SQL("explain (analyze, format json) ") + page, parameters).fetchone()
        assert [letter.message_id for letter in islice(DeadLetters(connection).outlines(page=21), 50)] == list(range(1, 51))

    limit = explained[0]["Plan"]
    scan = limit["Plans"][0]
    assert (limit["Node Type"], scan["Node Type"], scan["Actual Rows"]) == ("Limit", "Index Scan", 21)


# Purge


def test_purge_asks_first(dsn, open_shop):
    shop = open_shop()
    shop.pay({"total": 1}, {"total": 2})

    refused = shop.run("purge", input="n\n")
    agreed = shop.run("purge", input="y\n")

    assert "Delete 2 dead letters for good?" in refused.output
    assert refused.exit_code == 1
    assert agreed.output.endswith("2 dead letters deleted\n")
    assert letters(dsn) == []


def test_json_of_a_purge_is_alone_on_stdout(dsn, open_shop):
    open_shop().pay({"total": 1}, {"total": 2})

    result = run_alone(dsn, "purge", "--format", "json", input="y\n")

    assert json.loads(result.stdout) == {"deleted": 2}
    assert "Delete 2 dead letters for good?" in result.stderr


def test_purge_deletes_what_the_options_leave_and_nothing_else(dsn, open_shop):
    shop = open_shop()
    shop.pay({"total": 1}, {"total": 2}, {"total": 3})
    shop.events.publish("order.noted", "\0", namespace="payments")
    shop.events.publish("order.noted", "\0", namespace="orders")
    assert shop.events.drain(60)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "update pgmq.q_payments_domain_events_dlq set enqueued_at = now() - interval '3 days' where msg_id = 2"
        )

    def left() -> list[int]:
        with psycopg.connect(dsn) as connection:
            return [row[0] for row in connection.execute("select msg_id from pgmq.q_payments_domain_events_dlq order by 1")]

    assert run_alone(dsn, "purge", "--older-than", "2d", "--yes").output == "1 dead letter deleted\n"
    assert left() == [1, 3, 4]
    assert run_alone(dsn, "purge", "3", "--yes").output == "1 dead letter deleted\n"
    assert left() == [1, 4]
    assert run_alone(dsn, "purge", "--event", "order.*", "--namespace", "payments", "--yes").output == "1 dead letter deleted\n"
    assert left() == [1]
    assert len(letters(dsn, "orders")) == 1
    assert run_alone(dsn, "purge", "--yes").output == "2 dead letters deleted\n"


def test_many_are_purged_in_parts_each_of_them_a_transaction(dsn):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pgmq.create('many_domain_events_dlq')")
        connection.execute(
            "insert into pgmq.q_many_domain_events_dlq (vt, message) select now(), '{}' from generate_series(1, 1234) n"
        )
        connection.execute(
            "create table parts "
            "(at timestamptz default clock_timestamp(), transaction xid8 default pg_current_xact_id(), size int);"
            "create function note() returns trigger language plpgsql as "
            "'begin insert into parts (size) select count(*) from gone; return null; end';"
            "create trigger note after delete on pgmq.q_many_domain_events_dlq referencing old table as gone "
            "for each statement execute function note()"
        )

    assert run_alone(dsn, "purge", "--yes").output == "1234 dead letters deleted\n"
    assert messages(dsn, "many", dead_letters=True) == []
    with psycopg.connect(dsn) as connection:
        parts = connection.execute("select size, count(*) over (partition by transaction) from parts order by at").fetchall()
    assert parts == [(PAGE, 1), (PAGE, 1), (1234 - 2 * PAGE, 1)]


def test_where_there_is_no_letter_all_is_well(dsn):
    for arguments in (["list"], ["retry", "--all"], ["retry", "--event", "*"], ["purge"]):
        assert run_alone(dsn, *arguments).exit_code == 0


@pytest.mark.parametrize("command", [["list"], ["show", "1"], ["retry", "--all", "--dry-run"]], ids=lambda command: command[0])
def test_it_ends_as_other_programs_when_nobody_reads_any_more(dsn, command):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pgmq.create('many_domain_events_dlq')")
        connection.execute("select pgmq.send('many_domain_events_dlq', '{\"kept\": \"message\"}')")
    program = [*PROGRAM, "dlq", *command, "--dsn", dsn]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()

    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 141


# What is told where it can't be done


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["show", "99"], 1, "there is no dead letter 99"),
        (["show", "1"], 1, "there is a dead letter 1 in each of orders, payments: say which with --namespace"),
        (["show", "1", "--namespace", "paymnts"], 1, "has no queue for dead letters. Did you mean 'payments'?"),
        (["retry"], 2, "say which: MSG_ID..., --event PATTERN, or --all"),
        (["retry", "1", "--all"], 2, "say which: MSG_ID..., --event PATTERN, or --all"),
        (["retry", "2", "99"], 1, "there is no dead letter 99"),
        (["retry", "--event", "Payment"], 2, "bad pattern 'Payment'"),
        (["list", "--after", "3"], 2, "--after needs --namespace"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["purge", "--older-than", "soon"], 2, "'soon' is no age: a number and s, m, h, d or w, such as 12h or 30d"),
        (["purge", "1", "--event", "a.b"], 2, "MSG_ID... goes without --event and --older-than"),
    ],
)
def test_a_wrong_call_is_told_what_to_do_and_changes_nothing(dsn, open_shop, arguments, code, told):
    shop = open_shop()
    shop.pay({"total": 1}, {"total": 2})
    shop.events.publish("order.noted", "\0", namespace="orders")
    assert shop.events.drain(60)

    result = shop.run(*arguments)

    assert result.exit_code == code, result.output
    assert told in result.output
    assert (len(letters(dsn)), len(letters(dsn, "orders"))) == (2, 1)


def test_a_database_that_can_not_be_had_is_told_without_its_password(bare_dsn):
    without_pgmq = run_alone(bare_dsn, "list")
    unreachable = run_alone("postgresql://me:s3cret@127.0.0.1:1/none", "list")
    none = click.testing.CliRunner().invoke(main, ["dlq", "list"])

    assert (without_pgmq.exit_code, unreachable.exit_code, none.exit_code) == (1, 1, 2)
    assert "PGMQ is not installed" in without_pgmq.output
    assert "password=***" in unreachable.output
    assert "s3cret" not in unreachable.output
    assert "no database: give --dsn" in none.output
