"""The tutorial keeps its word: from an empty folder on, its files and commands are run in the order in which they stand there."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from pages import DOCS, extras, fences
from worker_process import wait_until

PAGE = "tutorial/your-first-event.md"

#: What differs from run to run.
VARIABLE = r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT[\d:.]+Z"
INSTALL = "pip install 'celery-tasker-events[testing]'"


def install(environment: Path) -> None:
    """Do what the page's ``pip install`` does, without a network: what these tests have is what it would bring."""
    (folder,) = environment.glob("lib/python*/site-packages")
    (folder / "installed.pth").write_text("\n".join(path for path in sys.path if path))
    for program, module in (("celery", "celery"), ("celery-tasker-events", "celery_tasker_events.cli.main")):
        script = environment / "bin" / program
        run = f"from {module}.__main__ import main" if program == "celery" else f"from {module} import main"
        script.write_text(f'#!/bin/sh\nexec "{environment}/bin/python" -c "import sys; {run}; sys.exit(main())" "$@"\n')
        script.chmod(0o755)


class Reader:
    """Somebody who does what the page says: commands in the first terminal end, those in the others run on."""

    def __init__(self, start: Path) -> None:
        self.start = start
        self.shop = start / "shop"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._command = ""
        self._output = ""
        self._watched = Path()

    def does(self, block: str) -> str:
        """Run a block, in the folder and the environment in which the reader is by then."""
        self._command, self._output = block, ""
        if match := re.match(r"# ((?:second|third) terminal)\n", block):
            self._leave(match[1])
            self._watched = self.start / match[1]
            with self._watched.open("wb") as output:
                self._running[match[1]] = subprocess.Popen(
                    self._shell(block),
                    cwd=self.start,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    # A background job of a shell ignores Ctrl-C, and so would all that these tests start.
                    preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
                )
        else:
            done = subprocess.run(self._shell(block), cwd=self.start, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stdout + done.stderr
            self._output = done.stdout
        if INSTALL in block:
            install(self.shop / ".venv")
        return self._output

    def sees(self, text: str) -> None:
        """Compare with what the block before has printed; if that is nothing, with what is on the terminal begun last."""
        # Dots stand for what the page leaves out.
        wanted = re.compile(".*".join(re.escape(piece.strip()) for piece in plain(text).split("…")))
        if not self._output:
            wait_until(lambda: wanted.search(plain(self._watched.read_text())), text)
        elif " tail " in self._command:  # a reader looks again, too
            wait_until(lambda: wanted.fullmatch(plain(self.does(self._command))), text)
        else:
            assert wanted.fullmatch(plain(self._output)), f"{text}\n--- but ---\n{self._output}"

    def leaves(self) -> None:
        for terminal in reversed(tuple(self._running)):
            self._leave(terminal)

    def _leave(self, terminal: str) -> None:
        if (process := self._running.pop(terminal, None)) is not None:
            os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
            process.wait(60)

    def _shell(self, block: str) -> list[str]:
        is_there = re.search(r"^(?:mkdir shop && )?cd shop", block, re.MULTILINE)
        enter = "" if is_there else "cd shop && . .venv/bin/activate\n"
        return ["sh", "-ec", enter + block.replace(INSTALL, ":")]


def plain(text: str) -> str:
    return " ".join(re.sub(VARIABLE, "…", text).split())


@pytest.fixture
def reader(monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    # Not under pytest's own folder, as the servers of the other tests.
    reader = Reader(Path(tempfile.mkdtemp(prefix="tutorial-")))
    yield reader
    reader.leaves()
    shutil.rmtree(reader.start)


def test_each_step_of_the_tutorial_shows_what_the_page_says(reader):
    steps = fences((DOCS / PAGE).read_text())

    for language, text in steps:
        if language == "python":
            (reader.shop / re.match(r"# (\S+)\n", text)[1]).write_text(text)
        elif language == "sh":
            reader.does(text)
        else:
            reader.sees(text)

    assert [language for language, _ in steps].count("text") == 8
    assert reader.does("python reader.py") == ""


def test_what_the_tutorial_installs_is_an_extra_that_there_is():
    (line,) = re.findall(r"^pip install .*$", (DOCS / PAGE).read_text(), re.MULTILINE)

    assert line == INSTALL
    assert "testing" in extras()
