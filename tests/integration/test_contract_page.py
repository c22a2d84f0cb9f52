"""The page about contracts in CI keeps its word: its files and commands, run in a repository as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from services import path_of

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "check-contracts-in-ci.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    identity = {f"GIT_{who}_{what}": "test@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **identity, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", "-ec", script], cwd=repository, env=environment, capture_output=True, text=True, timeout=120)

    path_of("git", "git")
    printed, codes, is_committed = "", [], False
    for language, text in BLOCKS:
        if language in ("yaml", "python"):
            name = re.match(r"# (\S+)\n", text)[1]
            if language == "python":
                assert (repository / name).read_text() == text.partition("\n")[2]
                continue
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            (repository / name).write_text(text)
            if not is_committed:
                is_committed = run("git init -q -b main . && git add -A && git commit -q -m base").returncode == 0
                assert is_committed
        elif language == "sh":
            done = run(text)
            assert done.stderr == ""
            printed = done.stdout
            codes.append(done.returncode)
        else:
            assert printed == text

    assert codes == [0, 1, 0, 0]
    assert "payment.processed" in (repository / "events.html").read_text()
    assert (repository / "asyncapi.yaml").read_text().startswith("asyncapi: 3.0.0\n")
