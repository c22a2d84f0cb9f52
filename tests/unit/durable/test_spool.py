"""The spool: rows in order, bounded, private, and each process' own until it dies."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from celery_tasker_events.durable.spool.report import spool_totals
from celery_tasker_events.durable.spool.spool import Kind, Spool, SpoolRow, WhenFull
from celery_tasker_events.errors import SpoolFull, SpoolUnusable

MUCH = 1_000_000

NewSpool = Callable[..., Spool]


def rows(*numbers: int, size: int = 0) -> list[SpoolRow]:
    return [SpoolRow("payment.processed", "payments", str(number).encode().ljust(size)) for number in numbers]


def contents(spool: Spool, limit: int = 1000) -> list[int]:
    return [int(row.content) for row in spool.oldest(limit)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def new_spool(folder: Path) -> Iterator[NewSpool]:
    spools: list[Spool] = []

    def create(max_bytes: int = MUCH, when_full: WhenFull = WhenFull.DROP_NEWEST) -> Spool:
        spools.append(Spool(folder / "shop.sqlite3", max_bytes, when_full))
        return spools[-1]

    yield create
    for spool in spools:
        spool.close()


@pytest.fixture
def in_child() -> Callable[[Callable[[], None]], int]:
    """Runs a function in a forked child that is then killed, or ends by itself; returns how it ended."""

    def run(function: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                function()
            except BaseException:
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return run


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_rows_come_back_in_the_order_in_which_they_were_added(new_spool: NewSpool) -> None:
    spool = new_spool()
    for number in range(10):
        spool.add(rows(number))
    spool.add(rows(10, 11))

    assert contents(spool) == list(range(12))
    assert contents(spool, limit=3) == [0, 1, 2]


def test_a_batch_is_bounded_by_bytes_but_never_empty(new_spool: NewSpool) -> None:
    spool = new_spool()
    spool.add(rows(0, 1, 2, size=100))

    assert len(spool.oldest(10, max_bytes=250)) == 2
    assert len(spool.oldest(10, max_bytes=1)) == 1


def test_what_is_removed_is_gone_and_no_id_comes_twice(new_spool: NewSpool) -> None:
    spool = new_spool()
    first = spool.add(rows(0, 1)).ids
    spool.remove(first)

    assert contents(spool) == []
    assert min(spool.add(rows(2)).ids) > max(first)


def test_rows_may_come_before_all_others(new_spool: NewSpool) -> None:
    spool = new_spool()
    spool.add(rows(3))
    spool.add(rows(1, 2), first=True)
    spool.add(rows(4))
    spool.add(rows(0), first=True)

    assert contents(spool) == [0, 1, 2, 3, 4]


def test_outcomes_and_messages_do_not_mix(new_spool: NewSpool) -> None:
    spool = new_spool()
    spool.add(rows(1), Kind.MESSAGE)
    spool.add(rows(2, 3), Kind.OUTCOME)

    assert (spool.count(Kind.MESSAGE), spool.count(Kind.OUTCOME)) == (1, 2)
    assert [int(row.content) for row in spool.oldest(10, kind=Kind.OUTCOME)] == [2, 3]


def test_a_full_spool_takes_nothing_of_what_does_not_fit(new_spool: NewSpool) -> None:
    spool = new_spool(max_bytes=250)
    spool.add(rows(0, 1, size=100))

    with pytest.raises(SpoolFull, match="tasker_events_spool_max_bytes above 250"):
        spool.add(rows(2, size=100))

    assert contents(spool) == [0, 1]
    spool.remove([spool.oldest(1)[0].id])
    assert spool.add(rows(2, size=100)).dropped == []


def test_a_full_spool_may_drop_the_oldest_instead(new_spool: NewSpool) -> None:
    spool = new_spool(max_bytes=250, when_full=WhenFull.DROP_OLDEST)
    spool.add(rows(0, 1, size=100))

    dropped = spool.add(rows(2, 3, size=100)).dropped

    assert contents(spool) == [2, 3]
    assert [event.event_name for event in dropped] == ["payment.processed"] * 2
    with pytest.raises(SpoolFull):
        spool.add(rows(4, size=300))


def test_the_bound_counts_the_rows_of_all_processes(new_spool: NewSpool) -> None:
    new_spool(max_bytes=250).add(rows(0, 1, size=100))

    with pytest.raises(SpoolFull):
        new_spool(max_bytes=250).add(rows(2, size=100))


def test_the_totals_are_those_of_all_processes(new_spool: NewSpool, folder: Path) -> None:
    assert spool_totals(folder / "shop.sqlite3") == (0, 0, None)
    assert not folder.exists(), "asking makes no file"

    new_spool().add(rows(0, size=100))
    new_spool().add(rows(1, size=100))

    totals = spool_totals(folder / "shop.sqlite3")
    assert (totals.events, totals.bytes) == (2, 200)
    assert totals.oldest is not None


def test_only_its_owner_can_read_the_file(new_spool: NewSpool, folder: Path) -> None:
    before = os.umask(0)
    try:
        new_spool().add(rows(0))
    finally:
        os.umask(before)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("shop.sqlite3*") if path.suffix != ".lock"} == {0o600}


def test_a_folder_that_others_can_write_is_refused(new_spool: NewSpool, folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)

    with pytest.raises(SpoolUnusable, match="can be written by others: chmod 700"):
        new_spool().add(rows(0))


def test_a_damaged_file_is_kept_aside_and_a_new_one_is_used(new_spool: NewSpool, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "shop.sqlite3").write_bytes(b"this is no database" * 1000)
    spool = new_spool()

    spool.add(rows(1))

    assert contents(spool) == [1]
    (kept,) = folder.glob("shop.sqlite3.damaged-*")
    assert kept.read_bytes().startswith(b"this is no database")


@pytest.mark.parametrize("use", [lambda spool: spool.add(rows(2)), Spool.adopt, Spool.has_orphans], ids=["add", "adopt", "look"])
def test_a_file_of_a_newer_version_is_left_as_it_is(new_spool: NewSpool, use: Callable[[Spool], object]) -> None:
    before = new_spool()
    before.add(rows(1))
    before.close()
    with contextlib.closing(sqlite3.connect(before.path)) as connection:
        connection.execute("pragma user_version = 2")

    with pytest.raises(SpoolUnusable, match="its format is 2, and this version of the package knows 1: upgrade the package"):
        use(new_spool())

    with contextlib.closing(sqlite3.connect(before.path)) as connection:
        assert connection.execute("select content from spooled").fetchall() == [(b"1",)]
        assert connection.execute("pragma user_version").fetchone() == (2,)


def test_a_disk_without_room_is_told_and_what_was_there_stays(new_spool: NewSpool) -> None:
    spool = new_spool()
    spool.add(rows(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(SpoolUnusable, match="disk"):
            spool.add(rows(1, size=500_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert contents(spool) == [0]
    spool.add(rows(2))
    assert contents(spool) == [0, 2]


def test_a_file_that_grew_gives_its_space_back_when_it_is_empty(new_spool: NewSpool, folder: Path) -> None:
    spool = new_spool(max_bytes=100_000_000)
    ids = spool.add(rows(*range(20), size=1_000_000)).ids

    spool.remove(ids)

    assert (folder / "shop.sqlite3").stat().st_size < 1_000_000


def test_the_rows_of_a_living_process_are_its_own(new_spool: NewSpool) -> None:
    new_spool().add(rows(1))
    other = new_spool()

    assert not other.has_orphans()
    assert not other.adopt()
    assert contents(other) == []


def test_the_rows_of_a_killed_process_are_adopted_in_order(
    new_spool: NewSpool, in_child: Callable[[Callable[[], None]], int]
) -> None:
    def add_and_die() -> None:
        new_spool().add(rows(1, 2, 3))
        kill_this_process()

    assert in_child(add_and_die) == -signal.SIGKILL
    spool = new_spool()
    spool.add(rows(4))

    assert spool.has_orphans()
    assert spool.adopt()
    assert contents(spool) == [1, 2, 3, 4]
    assert not spool.has_orphans()


def test_what_a_closed_spool_left_is_adopted(new_spool: NewSpool) -> None:
    first = new_spool()
    first.add(rows(1))
    first.close()
    spool = new_spool()

    assert spool.adopt()
    assert contents(spool) == [1]


def test_a_forked_child_does_not_keep_its_dead_parent_alive(
    new_spool: NewSpool, in_child: Callable[[Callable[[], None]], int], tmp_path: Path
) -> None:
    release = tmp_path / "release"
    os.mkfifo(release)

    def fork_and_die() -> None:
        new_spool().add(rows(1))
        if os.fork() == 0:
            release.read_text()
            os._exit(0)
        kill_this_process()

    assert in_child(fork_and_die) == -signal.SIGKILL
    try:
        assert new_spool().adopt()
    finally:
        release.write_text("go")


def test_of_two_who_adopt_at_once_each_row_goes_to_one(
    new_spool: NewSpool, in_child: Callable[[Callable[[], None]], int]
) -> None:
    in_child(lambda: (new_spool().add(rows(*range(100))), kill_this_process())[0])
    spools = [new_spool() for _ in range(4)]

    threads = [threading.Thread(target=spool.adopt) for spool in spools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(number for spool in spools for number in contents(spool)) == list(range(100))


OPEN_AND_ADD = """
import sys
from pathlib import Path
from celery_tasker_events.durable.spool.spool import Spool, SpoolRow
spool = Spool(Path(sys.argv[1]), 1_000_000)
sys.stdin.readline()
for _ in range(50):
    spool.add([SpoolRow("payment.processed", "payments", b"1")])
"""


def test_processes_that_open_a_new_file_at_once_lose_nothing(folder: Path) -> None:
    path = folder / "shop.sqlite3"
    command = [sys.executable, "-c", OPEN_AND_ADD, str(path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        process.communicate(b"go\n")

    assert [process.returncode for process in processes] == [0] * 4
    assert spool_totals(path).events == 200
