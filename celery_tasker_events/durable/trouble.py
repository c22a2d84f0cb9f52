"""What an error of Postgres means for the batch that met it: wait and try again, try a smaller one, or refuse it.

The table goes by SQLSTATE, as appendix A of PostgreSQL's manual lists them ("PostgreSQL Error Codes"). The statement and its
one parameter are always of the same form, so an error says one of two things. Either the server, the database or the
role is not as it should be, which would meet every event alike: the batch is kept until somebody has mended it. Or the
data is not to Postgres' taste: the batch is split until the bad event is alone, and that one becomes a dead letter.
"""

from __future__ import annotations

from enum import Enum

import psycopg
from psycopg_pool import PoolTimeout

from celery_tasker_events.errors import DatabaseNotReady

__all__ = ["TREATMENTS", "Treatment", "treatment_of"]


class Treatment(Enum):
    """What to do with a batch."""

    WAIT = "wait and try again"
    SMALLER = "try again in smaller batches; a single event waits"
    REFUSE = "split; a single event becomes a dead letter"


#: The longest prefix of an error's SQLSTATE counts; what is not here is refused.
TREATMENTS = {
    "08": Treatment.WAIT,  # connection exception: lost, refused, or the server is gone
    "0A": Treatment.REFUSE,  # feature not supported
    "22": Treatment.REFUSE,  # data exception, such as \u0000 in a text
    "23": Treatment.REFUSE,  # integrity constraint violation: somebody has put a constraint on the queue's table
    "25": Treatment.WAIT,  # invalid transaction state: a read-only server (25006), a timeout of the transaction (25P04)
    "26": Treatment.WAIT,  # invalid statement name: a pooler has lost a prepared statement
    "28": Treatment.WAIT,  # invalid authorization: wrong password, no such role, no line in pg_hba.conf
    "3D": Treatment.WAIT,  # invalid catalog name: no such database
    "3F": Treatment.WAIT,  # invalid schema name: no PGMQ
    "40": Treatment.WAIT,  # transaction rollback: serialization failure, deadlock, commit with an unknown end
    "42": Treatment.WAIT,  # access rule violation: a missing right, function or table
    "53": Treatment.WAIT,  # insufficient resources: disk full, too many connections
    "53200": Treatment.SMALLER,  # out of memory
    "54": Treatment.REFUSE,  # program limit exceeded: nested too deep or too large for jsonb
    "55": Treatment.WAIT,  # object not in prerequisite state: lock_timeout (55P03)
    "57": Treatment.WAIT,  # operator intervention: shut down, starting up, killed by an administrator
    "57014": Treatment.SMALLER,  # query canceled: statement_timeout
    "58": Treatment.WAIT,  # system error: input or output failed
    "F0": Treatment.WAIT,  # configuration file error
    "P0": Treatment.REFUSE,  # raised by PL/pgSQL: PGMQ, or a trigger on the queue's table, does not want it
    "XX": Treatment.REFUSE,  # internal error, such as a memory request that no value may make
    "XX001": Treatment.WAIT,  # data corrupted
    "XX002": Treatment.WAIT,  # index corrupted
}


def treatment_of(error: BaseException) -> Treatment:
    """Return what to do with the batch that met this error."""
    if isinstance(error, (DatabaseNotReady, PoolTimeout)):
        return Treatment.WAIT
    state = getattr(error, "sqlstate", None)
    if state is None:
        # libpq found no server, lost it in the middle, or the connection was closed already.
        lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return Treatment.WAIT if lost else Treatment.REFUSE
    return TREATMENTS.get(state) or TREATMENTS.get(state[:2], Treatment.REFUSE)
