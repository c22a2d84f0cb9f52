"""The example project: it pays its orders, and leaves no process behind however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_process import wait_until

pytest.importorskip("rich")
psutil = pytest.importorskip("psutil")

CHECKOUT = Path(__file__).resolve().parents[2]
SUMMARY = "Summary: 8 orders, 5 paid (2 after a retry), 3 failed; 8 durable events read from PGMQ, 19 events counted in process"
TIMEOUT = 90.0


class Run:
    """One ``python -m example_project``, with a folder for temporary files that tells its processes from all others."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "example_project", *arguments],
            cwd=CHECKOUT,
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_line(self, beginning: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(beginning):
                return line.rstrip("\n")
        pytest.fail(f"the run ended without saying {beginning!r}: {self.process.communicate()}")

    def press_ctrl_c(self, number: int = signal.SIGINT) -> None:
        """As a terminal does it: all processes of the foreground group get the signal."""
        os.killpg(self.process.pid, number)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out, err


def processes(folder: Path) -> list[str]:
    """All processes that a run in this folder has started, directly or not, and that are still there."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def home_of(folder: Path) -> Path:
    return folder / f"celery-tasker-events-example-{os.getuid()}"


def assert_nothing_left(folder: Path) -> None:
    # Postgres is gone a moment after pg_ctl has said so.
    wait_until(lambda: not processes(folder), "nothing is left")


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own: a Unix socket's path must be short.
    path = Path(tempfile.mkdtemp(prefix="shop-"))
    yield path
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(path):
                process.kill()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    shutil.rmtree(path, ignore_errors=True)


def test_pays_the_orders_and_shows_what_was_published(folder: Path) -> None:
    code, out, err = Run(folder).end()

    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == SUMMARY
    assert "A-1002   …0119    27.40   paid at attempt 3    payment.validated (fast)" in out
    assert "A-1003   payment.failed      process_payment    card_declined: the bank" in out
    assert_nothing_left(folder)


def test_a_killed_run_leaves_nothing_that_hurts_the_next(folder: Path) -> None:
    killed = Run(folder)
    killed.wait_for_line("Worker: started")
    killed.process.kill()
    killed.process.communicate()
    assert any("postgres" in line for line in processes(folder))
    assert any("celery" in line for line in processes(folder))

    code, out, err = Run(folder).end()

    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == SUMMARY
    assert_nothing_left(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_all_that_it_started_when_it_is_told_to_stop(folder: Path, number: signal.Signals) -> None:
    run = Run(folder)
    run.wait_for_line("Worker: started")
    run.press_ctrl_c(number)

    code, out, err = run.end()

    assert (code, err) == (128 + number, f"{number.name}: all that was started is stopped.\n")
    assert "Summary" not in out
    assert_nothing_left(folder)


def test_stops_postgres_even_when_interrupted_while_it_is_starting(folder: Path) -> None:
    run = Run(folder)
    wait_until((home_of(folder) / "postgres" / "PG_VERSION").exists, "Postgres is being made")
    run.press_ctrl_c()

    code, _, err = run.end()

    assert code == 128 + signal.SIGINT, err
    assert_nothing_left(folder)


def test_a_second_run_at_the_same_time_has_a_folder_of_its_own(folder: Path) -> None:
    home_of(folder).mkdir()
    with (home_of(folder) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = Run(folder)
        data = Path(run.wait_for_line("Postgres: embedded, its data is in ").rpartition(" ")[2])
        assert home_of(folder) not in data.parents
        assert data.exists()
        run.press_ctrl_c()
        run.end()

    assert not data.parent.exists()
    assert_nothing_left(folder)


def test_a_worker_that_dies_fails_the_run(folder: Path) -> None:
    run = Run(folder)
    run.wait_for_line("Worker: started")
    worker = json.loads((home_of(folder) / "worker.json").read_text())["pid"]
    os.kill(worker, signal.SIGKILL)

    code, out, err = run.end()

    assert code == 1
    assert err.splitlines()[-1] == "Error: the worker has ended with exit code -9"
    assert "Summary" not in out
    assert_nothing_left(folder)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--broker", "amqp://shop:secret@127.0.0.1:1//"], "Error: broker amqp://shop:**@127.0.0.1:1// can't be reached: "),
        (["--dsn", "postgresql://shop:secret@127.0.0.1:1/shop"], "Error: setting up user=shop password=*** dbname=shop"),
    ],
)
def test_tells_in_one_line_what_can_not_be_reached(folder: Path, arguments: list[str], said: str) -> None:
    code, out, err = Run(folder, *arguments).end()

    assert (code, out) == (2, "")
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert "secret" not in err
