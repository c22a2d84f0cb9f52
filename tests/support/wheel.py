"""What the embedded Postgres' wheel brings along: its programs, the user that they run as, and pg_ctl for one server."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres


def program(server: EmbeddedPostgres, name: str) -> str:
    """Path of a program of the server's installation, such as ``psql``."""
    return str(Path(server._wheel.__file__).parent / "pginstall" / "bin" / name)


def user(server: EmbeddedPostgres) -> str | None:
    """The user that the server runs as, which is another one where the tests run as root; None if it is the tests' own."""
    name: str | None = server._server.system_user
    return name


def run(server: EmbeddedPostgres, name: str, *arguments: str) -> None:
    """Run a program of the server's installation as the server's user."""
    # That user may not be able to enter the tests' working directory.
    subprocess.run([program(server, name), *arguments], user=user(server), cwd="/", check=True, capture_output=True, timeout=60)


def promote(server: EmbeddedPostgres) -> None:
    """Make a standby a primary, and wait until it is."""
    run(server, "pg_ctl", "-w", "-D", str(server._directory), "promote")


def give(path: Path, server: EmbeddedPostgres) -> None:
    """Let the path belong to the server's user."""
    if name := user(server):
        shutil.chown(path, name, name)
