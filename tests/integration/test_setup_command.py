"""``celery -A app domain-events setup`` installs PGMQ where it is missing and creates the declared queues."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

APPS = Path(__file__).parent / "apps"
QUEUES = {f"{name}_domain_events{suffix}" for name in ("payments", "audit") for suffix in ("", "_dlq")}


def setup_command(*arguments: str, **settings: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "SHOP_SETTINGS": json.dumps({f"tasker_events_{key}": value for key, value in settings.items()})}
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "shop", "domain-events", "setup", *arguments],
        cwd=APPS,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def queues(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        return {name for (name,) in connection.execute("select queue_name from pgmq.list_queues()")}


def test_it_installs_pgmq_and_creates_every_declared_queue_and_its_dead_letters(bare_dsn):
    code, output = finished(setup_command(dsn=bare_dsn))

    assert code == 0, output
    assert "PGMQ: installed as SQL" in output
    assert queues(bare_dsn) == QUEUES


def test_it_creates_the_queues_of_namespaces_that_nobody_declares(bare_dsn):
    code, output = finished(setup_command("--namespace", "shop", "--namespace", "risk", dsn=bare_dsn))

    assert code == 0, output
    more = {"shop_domain_events", "shop_domain_events_dlq", "risk_domain_events", "risk_domain_events_dlq"}
    assert queues(bare_dsn) == QUEUES | more


def test_a_bad_namespace_is_told(bare_dsn):
    code, output = finished(setup_command("--namespace", "My-Shop", dsn=bare_dsn))

    assert code == 2
    assert "'My-Shop'" in output


def test_it_may_be_repeated(bare_dsn):
    _, first = finished(setup_command("--format", "json", dsn=bare_dsn))

    code, output = finished(setup_command(dsn=bare_dsn))

    [told] = json.loads(first)
    assert told["installed"].startswith("SQL ")
    assert (set(told["created"]), told["existing"]) == (QUEUES, [])
    assert conninfo_to_dict(bare_dsn)["dbname"] in told["database"]
    assert code == 0, output
    assert "PGMQ: was installed already" in output
    assert "queue payments_domain_events: existed already" in output


def test_several_at_once_do_no_harm(bare_dsn):
    processes = [setup_command(dsn=bare_dsn) for _ in range(3)]
    ended = [finished(process) for process in processes]

    assert [code for code, _ in ended] == [0, 0, 0], ended
    assert queues(bare_dsn) == QUEUES
    assert sum("installed as" in output for _, output in ended) == 1


def test_a_dsn_on_the_command_line_goes_before_the_configured_one(bare_dsn):
    code, output = finished(setup_command("--dsn", bare_dsn, dsn="postgresql://me@127.0.0.1:1/none"))

    assert code == 0, output
    assert queues(bare_dsn) == QUEUES


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "no database: set tasker_events_dsn in the app's configuration or give --dsn"),
        (
            {"dsn": "postgresql://me:s3cret@127.0.0.1:1/none"},
            "setting up user=me password=*** dbname=none host=127.0.0.1 port=1 failed",
        ),
        ({"dsn": "x", "templates": ["nowhere/*.yaml"]}, "tasker_events_dsn: is not a connection string"),
    ],
)
def test_what_it_can_not_do_is_told_without_a_traceback_or_a_password(settings, complaint):
    code, output = finished(setup_command(**settings))

    assert code in (1, 2)
    assert complaint in output
    assert "Traceback" not in output
    assert "s3cret" not in output


@pytest.fixture
def role() -> str:
    return f"setter_{uuid.uuid4().hex}"


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_a_role_that_may_not_install_is_told_which_right_it_lacks(bare_dsn, role):
    execute(bare_dsn, f"create role {role} login")

    code, output = finished(setup_command(dsn=make_conninfo(bare_dsn, user=role)))

    assert code == 1
    assert "permission denied for database" in output
    assert "Installing PGMQ needs CREATE on the database" in output
    assert "Traceback" not in output


def test_a_role_that_may_not_create_queues_is_told_which_right_it_lacks(dsn, role):
    execute(dsn, f"create role {role} login")

    code, output = finished(setup_command(dsn=make_conninfo(dsn, user=role)))

    assert code == 1
    assert "permission denied for schema pgmq" in output
    assert "creating queues needs USAGE and CREATE on the schema pgmq, and SELECT and INSERT on pgmq.meta" in output


def test_queues_are_created_in_a_schema_that_another_role_owns(dsn, role):
    execute(
        dsn,
        f"create role {role} login",
        f"grant usage, create on schema pgmq to {role}",
        f"grant select, insert on pgmq.meta to {role}",
    )

    code, output = finished(setup_command(dsn=make_conninfo(dsn, user=role)))

    assert code == 0, output
    assert queues(dsn) == QUEUES


def test_a_role_that_is_no_superuser_installs_it_where_it_may_create_schemas(bare_dsn, role):
    execute(bare_dsn, f"create role {role} login", f"grant create on database {conninfo_to_dict(bare_dsn)['dbname']} to {role}")

    code, output = finished(setup_command(dsn=make_conninfo(bare_dsn, user=role)))

    assert code == 0, output
    assert queues(bare_dsn) == QUEUES


def test_what_is_called_pgmq_and_lacks_its_functions_is_refused(bare_dsn):
    execute(bare_dsn, "create schema pgmq")

    code, output = finished(setup_command(dsn=bare_dsn))

    assert code == 1
    assert "is too old: 1.4 or newer is needed" in output
    assert "Traceback" not in output
