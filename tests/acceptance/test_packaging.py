"""What is released: a source distribution, and a wheel that is made from it and works with the core dependencies alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "celery_tasker_events"

SHOP = """
from celery import Celery
from celery_tasker_events import DomainEvents, publishes_events

app = Celery("shop", broker="memory://")
events = DomainEvents(app)

@app.task
@publishes_events("payment.processed", namespace="payments", delivery_mode="fast")
def pay(): ...
"""


def run(*command: str | Path, cwd: Path, code: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def names_of_the_package() -> set[str]:
    """All files of the package as they are in the tree, such as ``celery_tasker_events/cli/main.py``."""
    found = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT)) for path in found}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that ``build`` makes from it."""
    folder = tmp_path_factory.mktemp("dist")
    # Setuptools leaves files beside setup.cfg, and those of another build must not get into this one.
    tree = folder / "tree"
    shutil.copytree(PACKAGE, tree / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    run(sys.executable, "-m", "build", "--outdir", folder, tree, cwd=folder)
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel and what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    programs = folder / "venv" / "bin"
    run(programs / "python", "-m", "pip", "install", "-q", distributions[1], cwd=folder)
    return programs


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def test_the_wheel_has_the_whole_package_and_nothing_else(distributions: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(distributions[1]).namelist())

    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == names_of_the_package()
    assert "celery_tasker_events/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


def test_the_source_distribution_has_what_is_needed_to_build_and_no_tests(distributions: tuple[Path, Path]) -> None:
    source = distributions[0]
    with tarfile.open(source) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}

    assert names_of_the_package() | {"setup.cfg", "setup.py", "README.md", "LICENSE"} <= files
    assert [name for name in files if name.startswith("tests")] == []


def test_the_metadata_say_what_it_is(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[1]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(wheel.read(name).decode())

    assert metadata["Name"] == "celery-tasker-events"
    assert (metadata["License-Expression"] or metadata["License"]) == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# celery-tasker-events")


def test_it_is_imported_and_lists_its_commands(installed: Path, shop: Path) -> None:
    program = (
        "import celery_tasker_events, importlib.metadata as metadata\n"
        "from celery_tasker_events import *\n"
        "print(DomainEvents.__name__, [point.value for point in metadata.entry_points(group='pytest11')])"
    )
    printed = run(installed / "python", "-c", program, cwd=shop)

    assert printed.startswith("DomainEvents ")
    assert "'celery_tasker_events.testing.plugin'" in printed
    assert "consume" in run(installed / "celery-tasker-events", "--help", cwd=shop)


def test_it_checks_an_app(installed: Path, shop: Path) -> None:
    printed = run(installed / "celery", "-A", "shop", "domain-events", "check", cwd=shop)

    assert "1 event: 0 errors, 0 warnings" in printed


@pytest.mark.parametrize("url", ["redis://localhost:1/0", "https://localhost:1/events"])
def test_a_command_that_needs_an_extra_says_which(installed: Path, shop: Path, url: str) -> None:
    command = [installed / "celery-tasker-events", "forward", "payments", "--to", url, "--dsn", "postgresql://localhost:1/shop"]
    code = 1 if url.startswith("redis") else 2

    assert "pip install 'celery-tasker-events[forward]'" in run(*command, cwd=shop, code=code)


def test_a_worker_that_needs_an_extra_says_which(installed: Path, shop: Path) -> None:
    with (shop / "shop.py").open("a") as file:
        file.write("\napp.conf.tasker_events_metrics_port = 0\n")

    printed = run(installed / "celery", "-A", "shop", "worker", "--pool", "solo", cwd=shop, code=1)

    assert "pip install 'celery-tasker-events[prometheus]'" in printed


def test_an_embedded_postgres_needs_an_extra_and_says_which(installed: Path, shop: Path) -> None:
    program = (
        "import pathlib; from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres\n"
        "EmbeddedPostgres(pathlib.Path('data'))"
    )

    assert "pip install 'celery-tasker-events[testing]'" in run(installed / "python", "-c", program, cwd=shop, code=1)
