"""Which error of Postgres is waited out, which one makes smaller batches, and which one makes a dead letter."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg_pool import PoolTimeout

from celery_tasker_events.durable.trouble import TREATMENTS, Treatment, treatment_of
from celery_tasker_events.errors import PgmqMissing, PgmqTooOld

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "databases.md"


@pytest.mark.parametrize(
    "error",
    [
        errors.ConnectionFailure,
        errors.ReadOnlySqlTransaction,
        errors.TransactionTimeout,
        errors.InvalidSqlStatementName,
        errors.InvalidPassword,
        errors.InvalidCatalogName,
        errors.SerializationFailure,
        errors.DeadlockDetected,
        errors.StatementCompletionUnknown,
        errors.InsufficientPrivilege,
        errors.UndefinedTable,
        errors.UndefinedFunction,
        errors.DiskFull,
        errors.TooManyConnections,
        errors.LockNotAvailable,
        errors.AdminShutdown,
        errors.CrashShutdown,
        errors.CannotConnectNow,
        errors.IdleSessionTimeout,
        errors.IoError,
        errors.DataCorrupted,
        psycopg.OperationalError,
        psycopg.InterfaceError,
        PoolTimeout,
    ],
)
def test_what_an_administrator_or_time_can_mend_is_waited_for(error: type[Exception]) -> None:
    assert treatment_of(error("?")) is Treatment.WAIT


@pytest.mark.parametrize("error", [PgmqMissing("database 'shop'"), PgmqTooOld("database 'shop'", "1.3.3")])
def test_a_database_without_the_right_pgmq_is_waited_for(error: Exception) -> None:
    assert treatment_of(error) is Treatment.WAIT


@pytest.mark.parametrize("error", [errors.QueryCanceled, errors.OutOfMemory])
def test_what_a_smaller_batch_may_escape_makes_smaller_batches(error: type[Exception]) -> None:
    assert treatment_of(error("?")) is Treatment.SMALLER


@pytest.mark.parametrize(
    "error",
    [
        errors.UntranslatableCharacter,
        errors.InvalidTextRepresentation,
        errors.CheckViolation,
        errors.ProgramLimitExceeded,
        errors.StatementTooComplex,
        errors.RaiseException,
        errors.InternalError_,
        errors.FeatureNotSupported,
        errors.FdwError,  # not in the table
        psycopg.DataError,
        ValueError,
    ],
)
def test_what_the_data_is_to_blame_for_is_refused(error: type[Exception]) -> None:
    assert treatment_of(error("?")) is Treatment.REFUSE


def test_every_line_of_the_table_is_a_class_or_a_code_of_postgres() -> None:
    codes = {str(getattr(error, "sqlstate", "")) for error in vars(errors).values() if isinstance(error, type)}
    classes = {code[:2] for code in codes}

    assert [prefix for prefix in TREATMENTS if prefix not in classes and prefix not in codes] == []


def test_the_page_tells_the_table() -> None:
    lines = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| [^|]+ \| (wait|smaller|refuse) \|$", PAGE.read_text(), re.MULTILINE)
    told = {prefix: Treatment[what.upper()] for prefixes, what in lines for prefix in re.findall(r"`(\w+)`", prefixes)}

    assert told == TREATMENTS
