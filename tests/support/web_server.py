"""Real web servers for tests, as processes of their own, and requests to them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from worker_process import wait_until


class WebServer:
    """A server that listens on a port of this host."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self._base = f"http://127.0.0.1:{port}"
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def request(self, path: str, body: Any = None) -> tuple[int, Any]:
        """GET, or POST with a body that becomes JSON; return the status and what JSON the answer holds."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
                return error.code, json.loads(text) if text.startswith(b"{") else None

    def stop(self) -> int:
        """Send SIGTERM and wait for the end; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextlib.contextmanager
def serving(command: Sequence[str], port: int, cwd: Path, environment: Mapping[str, str], log: Path) -> Iterator[WebServer]:
    """Start a server, wait until it answers, and kill it in the end if it still runs."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **environment}, stdout=output, stderr=output, start_new_session=True
        )
    server = WebServer(process, port, log)

    def answers() -> bool:
        assert process.poll() is None, server.log
        try:
            server.request("/")
        except OSError:
            return False
        return True

    try:
        wait_until(answers, "the server answers", timeout=60)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
