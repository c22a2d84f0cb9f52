"""Where the spool of a database is: one file for each, so that its events never go to another."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

__all__ = ["default_folder", "spool_path"]

#: What tells one database from another, with the environment variable that libpq reads where a DSN leaves it out.
_PARTS = {"dbname": "PGDATABASE", "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "service": "PGSERVICE"}


def default_folder() -> Path:
    """Return the user's state folder for this package, as the platform has it; where that can't be written, one in /tmp."""
    # Imported here: a worker that is told its folder needs nothing to find one.
    import platformdirs

    folder = platformdirs.user_state_path("celery-tasker-events")
    if os.access(_nearest_existing(folder), os.W_OK):
        return folder
    return Path(tempfile.gettempdir()) / f"celery-tasker-events-{os.getuid()}"


def spool_path(dsn: str, folder: str | None = None) -> Path:
    """Return the file for that database: the same however its DSN is written, and whatever user and password it names.

    Args:
        folder: By default :func:`default_folder`.
    """
    given = conninfo_to_dict(dsn)
    parts = [str(given.get(key) or os.environ.get(variable, "")) for key, variable in _PARTS.items()]
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=4).hexdigest()
    readable = re.sub(r"\W+", "-", "-".join(filter(None, parts)))[:60].strip("-")
    return (default_folder() if folder is None else Path(folder)) / f"{readable}-{digest}.sqlite3"


def _nearest_existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
