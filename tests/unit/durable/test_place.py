"""Each database has a spool of its own, however its DSN is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celery_tasker_events.durable.spool.place import default_folder, spool_path

FOLDER = "/var/spool/shop"


@pytest.mark.parametrize(
    "same",
    ["postgresql://a:secret@db/shop", "postgresql://db/shop?connect_timeout=3", "host=db dbname=shop user=b password=x"],
)
def test_user_password_and_spelling_do_not_matter(same: str) -> None:
    assert spool_path(same, FOLDER) == spool_path("postgresql://db/shop", FOLDER)
    assert "secret" not in spool_path(same, FOLDER).name


@pytest.mark.parametrize("other", ["postgresql://db/other", "postgresql://db2/shop", "postgresql://db:5433/shop"])
def test_another_database_has_another_file(other: str) -> None:
    assert spool_path(other, FOLDER) != spool_path("postgresql://db/shop", FOLDER)


def test_what_the_dsn_leaves_to_the_environment_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGDATABASE", "shop")
    monkeypatch.setenv("PGHOST", "db")

    assert spool_path("postgresql://", FOLDER) == spool_path("postgresql://db/shop", FOLDER)


def test_no_path_can_be_smuggled_in() -> None:
    path = spool_path("host=/var/run/../../etc dbname='../../x'", FOLDER)

    assert path.parent == Path(FOLDER)
    assert ".." not in path.name


def test_by_default_it_is_in_the_users_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    assert spool_path("postgresql://db/shop").parent == tmp_path / "celery-tasker-events"


def test_without_a_home_that_can_be_written_it_is_in_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith("/proc"))

    assert default_folder().name == f"celery-tasker-events-{os.getuid()}"
