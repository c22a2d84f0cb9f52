"""Every SQL statement that the spool sends to SQLite, with why it is as it is."""

from __future__ import annotations

__all__ = [
    "ADD",
    "ADOPT",
    "ALL_OLDEST",
    "BEFORE_ALL",
    "BYTES",
    "CLEAR",
    "COUNT_OF",
    "FORMAT",
    "FORMAT_FOUND",
    "NAMES",
    "OLDEST",
    "OWNERS",
    "PRAGMAS",
    "REMOVE",
    "SCHEMA",
    "SET_FORMAT",
    "TOTALS",
]

# With a write-ahead log readers never wait for a writer, and a commit is a write without fsync: what is committed
# survives the process, not the power.
PRAGMAS = ("pragma journal_mode = wal", "pragma synchronous = normal")

#: What the file holds, and how. A change that an older version of this package would misread is a new number.
FORMAT = 1

# A new file has 0.
FORMAT_FOUND = "pragma user_version"

# A pragma takes no parameter.
SET_FORMAT = f"pragma user_version = {FORMAT}"

# An id tells the order in which rows came, whoever removed what in between: SQLite gives it, and never again. A row that
# must come before all others has a negative one.
# The totals are kept by triggers: a sum over all rows for every row that is added would make a long outage quadratic.
SCHEMA = """
begin immediate;
create table if not exists spooled (
    id integer primary key autoincrement,
    owner text not null,
    kind integer not null,
    event_name text not null,
    namespace text not null,
    content blob not null,
    size integer not null,
    spooled_at real not null
);
create index if not exists spooled_by_owner on spooled (owner, kind, id);
create table if not exists totals (events integer not null, bytes integer not null);
insert into totals select 0, 0 where not exists (select 1 from totals);
create trigger if not exists count_added after insert on spooled begin
    update totals set events = events + 1, bytes = bytes + new.size;
end;
create trigger if not exists count_removed after delete on spooled begin
    update totals set events = events - 1, bytes = bytes - old.size;
end;
commit;
"""

ADD = """
insert into spooled (id, owner, kind, event_name, namespace, content, size, spooled_at)
values (?, ?, ?, ?, ?, ?, ?, ?)
"""

BEFORE_ALL = "select min(0, coalesce(min(id), 0)) from spooled"

OLDEST = "select id, event_name, namespace, content from spooled where owner = ? and kind = ? order by id limit ?"

ALL_OLDEST = "select id, event_name, namespace, size from spooled order by id limit ?"

REMOVE = "delete from spooled where id = ?"

COUNT_OF = "select count(*) from spooled where owner = ? and kind = ?"

BYTES = "select bytes from totals"

OWNERS = "select distinct owner from spooled"

# Two who adopt the same rows at once: the second finds none, as SQLite lets one write after the other.
ADOPT = "update spooled set owner = ? where owner = ?"

TOTALS = "select events, bytes, (select spooled_at from spooled order by id limit 1) from totals"

NAMES = "select owner, namespace, event_name, count(*) from spooled group by owner, namespace, event_name order by min(id)"

CLEAR = "delete from spooled"
