"""Which database a command takes, and what it says when that is no use."""

from __future__ import annotations

from typing import Any

import click
import click.testing
import psycopg
import pytest
from celery import Celery
from celery.bin.base import CLIContext

from celery_tasker_events import DomainEvents
from celery_tasker_events.cli.database import DSN_VARIABLE, LIBPQ_VARIABLES, Database, database_option
from celery_tasker_events.errors import PgmqMissing

UNREACHABLE = "postgresql://me:s3cret@127.0.0.1:1/none"


@click.command()
@database_option
def where(database: Database) -> None:
    click.echo(f"{database.dsn}|{database}")


@click.command()
@database_option
def use(database: Database) -> None:
    with database.connected():
        click.echo("connected")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (DSN_VARIABLE, *LIBPQ_VARIABLES):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str, app: Celery | None = None, command: click.Command = where) -> click.testing.Result:
    context: Any = app and CLIContext(app=app, no_color=True, workdir=None)
    return click.testing.CliRunner().invoke(command, arguments, obj=context)


@pytest.fixture
def shop_with_database(shop: tuple[Celery, DomainEvents]) -> Celery:
    app, _ = shop
    app.conf.tasker_events_dsn = "dbname=of_the_app"
    return app


def test_the_option_goes_first_then_the_app_then_the_variable_then_libpq(
    shop_with_database: Celery, shop: tuple[Celery, DomainEvents], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGDATABASE", "of_libpq")
    assert run().output == "|the database (PGDATABASE)\n"

    monkeypatch.setenv(DSN_VARIABLE, "dbname=of_the_variable")
    assert run().output == "dbname=of_the_variable|dbname=of_the_variable (TASKER_EVENTS_DSN)\n"
    assert run(app=shop_with_database).output == "dbname=of_the_app|dbname=of_the_app (tasker_events_dsn)\n"
    assert run("--dsn", "dbname=given", app=shop_with_database).output == "dbname=given|dbname=given (--dsn)\n"


def test_an_app_without_a_database_leaves_it_to_the_environment(
    shop: tuple[Celery, DomainEvents], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DSN_VARIABLE, "dbname=of_the_variable")

    assert run(app=shop[0]).output.startswith("dbname=of_the_variable|")


def test_no_database_at_all_is_a_wrong_call(shop: tuple[Celery, DomainEvents]) -> None:
    alone, with_app = run(), run(app=shop[0])

    assert (alone.exit_code, with_app.exit_code) == (2, 2)
    assert "no database: give --dsn, or set TASKER_EVENTS_DSN or libpq's PGHOST and PGDATABASE" in alone.output
    assert "tasker_events_dsn" not in alone.output
    assert "or tasker_events_dsn in the app's configuration" in with_app.output


@pytest.mark.parametrize("dsn", ["s3cret", "postgresql://me:s3cret@[half/none"])
def test_what_is_no_connection_string_is_not_repeated(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = run("--dsn", dsn)
    monkeypatch.setenv(DSN_VARIABLE, dsn)
    set_ = run()

    assert (given.exit_code, set_.exit_code) == (2, 2)
    assert "--dsn: is not a connection string that libpq understands" in given.output
    assert "TASKER_EVENTS_DSN: is not a connection string" in set_.output
    assert "s3cret" not in given.output + set_.output


def test_an_app_whose_settings_are_wrong_says_so(shop: tuple[Celery, DomainEvents]) -> None:
    app, _ = shop
    app.conf.tasker_events_namspace = "payments"

    result = run(app=app)

    assert result.exit_code == 1
    assert "tasker_events_namspace: unknown setting. Did you mean 'tasker_events_namespace'?" in result.output


def test_an_unreachable_database_is_told_without_a_traceback_or_a_password() -> None:
    result = run("--dsn", UNREACHABLE, command=use)

    assert result.exit_code == 1
    assert "Error: user=me password=*** dbname=none host=127.0.0.1 port=1 (--dsn): connection failed" in result.output
    assert "s3cret" not in result.output


@pytest.mark.parametrize("trouble", [psycopg.errors.InsufficientPrivilege("permission denied"), PgmqMissing("database 'x'")])
def test_trouble_with_what_is_in_it_names_the_database(trouble: Exception) -> None:
    database = Database("dbname=x password=s3cret", "--dsn")

    with pytest.raises(click.ClickException) as told, database.told_clearly():
        raise trouble

    assert told.value.exit_code == 1
    assert told.value.message == f"password=*** dbname=x (--dsn): {trouble}"


def test_ctrl_c_ends_a_command_with_the_exit_code_of_a_shell() -> None:
    with pytest.raises(click.exceptions.Exit) as ended, Database("", "--dsn").told_clearly():
        raise KeyboardInterrupt

    assert ended.value.exit_code == 130


def test_help_needs_no_database() -> None:
    assert run("--help").exit_code == 0
